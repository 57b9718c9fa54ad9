#!/bin/sh
# Answers any GET /: uptime grows as long as the machine was not started anew; boot changes with every start.
read -r uptime _ < /proc/uptime
read -r boot < /proc/sys/kernel/random/boot_id
printf 'Content-Type: text/plain\r\n\r\nhost=%s uptime=%s boot=%s\n' "$(hostname)" "$uptime" "$boot"
