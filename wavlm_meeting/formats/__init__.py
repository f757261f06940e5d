"""Annotation files: RTTM, UEM and the toolkit's JSON, read strictly and written whole."""

from wavlm_meeting.formats.json import (
    DiarizationDocument,
    document_of,
    read_json,
    write_json,
)
from wavlm_meeting.formats.rttm import read_rttm, write_rttm
from wavlm_meeting.formats.uem import read_uem, write_uem

__all__ = [
    "DiarizationDocument",
    "document_of",
    "read_json",
    "read_rttm",
    "read_uem",
    "write_json",
    "write_rttm",
    "write_uem",
]
