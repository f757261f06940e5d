"""Annotation files, read strictly and written whole: turns, UEM, words, transcripts, trials."""

from wavlm_meeting.formats.catalog import FORMATS, Format, read_turns
from wavlm_meeting.formats.document import DiarizationDocument, document_of
from wavlm_meeting.formats.json import read_json, write_json
from wavlm_meeting.formats.rttm import read_rttm, write_rttm
from wavlm_meeting.formats.uem import read_uem, write_uem

__all__ = [
    "FORMATS",
    "DiarizationDocument",
    "Format",
    "document_of",
    "read_json",
    "read_rttm",
    "read_turns",
    "read_uem",
    "write_json",
    "write_rttm",
    "write_uem",
]
