"""Every error and warning that a user can cause or should hear of.

Each message is one line that says what is wrong and what to do about it.
"""


class WavLMMeetingError(Exception):
    """Base of all errors that name their cure; the command line exits with status 2 on them."""


class AudioError(WavLMMeetingError):
    """A recording that cannot be read or holds nothing to analyse."""


class CheckpointError(WavLMMeetingError):
    """A model that cannot be found, opened, matched to its architecture or written."""


class SettingsError(WavLMMeetingError):
    """A setting, option or argument outside of what it may be."""


class FormatError(WavLMMeetingError):
    """An annotation file (RTTM, UEM, ...) that does not follow its format."""


class DeviceError(WavLMMeetingError):
    """A compute device that was asked for and is not there."""


class TrainingError(WavLMMeetingError):
    """A training that cannot go on as it is."""


class WavLMMeetingWarning(UserWarning):
    """Base of all warnings: the work goes on, but the user should know."""


class AudioWarning(WavLMMeetingWarning):
    """A recording that is analysed only in part, or holds no speech."""


class SpeakerCountWarning(WavLMMeetingWarning):
    """A number of speakers that was asked for and that the recording cannot carry."""
