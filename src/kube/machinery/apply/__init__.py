"""Server-side apply and the books it needs: who owns which field of an object (`metadata.managedFields`).

Pure rules, no I/O. A server makes one `FieldManager` for each kind and version, and one for each of its subresources,
and keeps it, because compiling the schema is the costly part:

    kind = compile_type(schema)      # a CRD version's schema, or builtin.openapi_v3_schema(name)
    fields = FieldManager(kind, "example.com/v1", "Widget", reset_fields=[("status",)])
    status = FieldManager(kind, "example.com/v1", "Widget", subresource="status", reset_fields=[("spec",)])

Content type application/apply-patch+yaml (JSON is YAML, too):

    check_field_manager(query_manager, "PatchOptions", required=True)                    # 422 if there is none
    new = fields.apply(live_or_none, body, query_manager, force=force, now=now_rfc3339())  # 409, 400, 500

and then `new` goes the way of any other write: prune, default, strategy, admission, validation, store. An object that
is not there is created (`live` None: answer 201), for which the caller sets uid, creationTimestamp and so on.
Leave out the write when `new` equals the live object.

All other writes, after the object was decoded, patched and defaulted:

    new = fields.update(live_or_none, new, manager_name(query_manager, user_agent), now=now_rfc3339())

`live` is the stored object with its managedFields. What is answered to clients is up to the caller, too (kube-apiserver
shows managedFields always). Times have whole seconds.
"""

from kube.machinery.apply.fieldmanager import FieldManager
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.managers import decode_managed_fields, encode_managed_fields
from kube.machinery.apply.options import check_field_manager, check_force, manager_name
from kube.machinery.apply.types import Type, compile_type

__all__ = [
    "FieldManager",
    "FieldSet",
    "Type",
    "check_field_manager",
    "check_force",
    "compile_type",
    "decode_managed_fields",
    "encode_managed_fields",
    "manager_name",
]
