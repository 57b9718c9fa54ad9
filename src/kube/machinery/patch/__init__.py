"""The three kinds of PATCH bodies that the API accepts besides server-side apply.

Each function takes the current object and the decoded body and returns a new object that shares nothing with either;
neither input is changed. A malformed patch raises StatusError 400, one that does not fit the object StatusError 422.
"""

from kube.machinery.patch.json import json_patch
from kube.machinery.patch.merge import merge_patch
from kube.machinery.patch.strategic import strategic_merge_patch

__all__ = ["json_patch", "merge_patch", "strategic_merge_patch"]
