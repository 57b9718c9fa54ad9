# The guest that kvm.py runs to find out whether KVM is usable: from real mode to long mode, with loops that show speed.
# It is loaded at 0x1000 of 8 MiB of memory and writes one letter to port 0xf4 after each stage:
#   R real mode           P protected mode      p a loop of 2 million steps
#   L long mode           l a loop of 20 million steps
#   M 4 MiB filled        m 64 Ki words stored and read back
#   U an exception taken  u and returned from   C 2000 reloads of the page tables   Z 200 CPUIDs; then it halts.
# The bytes in kvm.py are made by:  as --64 -o guest.o kvm_guest.S && ld -Ttext 0x1000 --oformat binary -o guest.bin guest.o
        .set PORT, 0xf4
        .set TABLES, 0x10000
        .set IDT, 0x8000
        .macro mark letter
        mov $\letter, %al
        out %al, $PORT
        .endm

        .globl _start
        .code16
_start: cli
        xor %ax, %ax
        mov %ax, %ds
        mark 'R'
        lgdtl gdtr
        mov %cr0, %eax
        or $1, %eax
        mov %eax, %cr0
        ljmpl $8, $protected

        .code32
protected:
        mov $16, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $0x9000, %esp
        mark 'P'
        mov $2000000, %ecx
1:      dec %ecx
        jnz 1b
        mark 'p'
        mov $TABLES, %edi
        xor %eax, %eax
        mov $0xc00, %ecx
        rep stosl
        movl $TABLES + 0x1003, TABLES
        movl $TABLES + 0x2003, TABLES + 0x1000
        mov $TABLES + 0x2000, %edi
        mov $0x83, %eax
2:      mov %eax, (%edi)
        add $8, %edi
        add $0x200000, %eax
        cmp $0x800083, %eax
        jne 2b
        mov $TABLES, %eax
        mov %eax, %cr3
        mov %cr4, %eax
        or $0x20, %eax
        mov %eax, %cr4
        mov $0xc0000080, %ecx
        rdmsr
        or $0x100, %eax
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        ljmp $24, $long_mode

        .code64
long_mode:
        mark 'L'
        mov $20000000, %ecx
3:      dec %ecx
        jnz 3b
        mark 'l'
        mov $0x200000, %edi
        mov $0x400000, %ecx
        mov $0x5a, %al
        rep stosb
        mark 'M'
        mov $0x10000, %ecx
        mov $0x200000, %edi
4:      mov %rcx, (%rdi)
        cmp %rcx, (%rdi)
        jne broken
        add $8, %rdi
        loop 4b
        mark 'm'
        mov $invalid_opcode, %eax
        mov %ax, IDT + 0x60
        movw $24, IDT + 0x62
        movw $0x8e00, IDT + 0x64
        shr $16, %eax
        mov %ax, IDT + 0x66
        movq $0, IDT + 0x68
        lidt idtr
        ud2
        mark 'u'
        mov $2000, %ecx
        mov %cr3, %rdx
5:      mov %rdx, %cr3
        invlpg 0x200000
        loop 5b
        mark 'C'
        mov $200, %esi
6:      xor %eax, %eax
        xor %ecx, %ecx
        cpuid
        dec %esi
        jnz 6b
        mark 'Z'
broken: hlt
        jmp broken
invalid_opcode:
        mark 'U'
        addq $2, (%rsp)
        iretq

        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00af9b000000ffff
gdtr:   .word gdtr - gdt - 1
        .long gdt
idtr:   .word 0x7f
        .quad IDT
