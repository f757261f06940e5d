"""The command `wavlm-meeting`, the only part that knows a terminal; wavlm_meeting.cli."""
