"""Errors that a user can cause or meet; everything else is a bug and keeps its traceback.

Each carries one message: what was wrong, where, and how to mend it. A single argument, so that it pickles.
"""


class GanError(Exception):
    """A failure that is told in one line. A command that meets one exits with `exit_code`."""

    exit_code = 1


class InputError(GanError):
    """The input is wrong: an option, a URL, a data set, a run that does not fit."""

    exit_code = 2


class ConfigError(InputError):
    """A recipe or an override is wrong; the message names the key's path."""


class DataError(InputError):
    """A source of images or a prepared data set is wrong, missing or damaged."""


class StorageError(GanError):
    """A store did not do what was asked, after retries."""


class MissingError(StorageError, InputError):
    """There is nothing at a URL."""


class AccessError(StorageError, InputError):
    """A store refused: no permission, no credentials, no such bucket."""


class AlreadyExistsError(StorageError):
    """An object that was to be created is there already."""


class CheckpointError(GanError):
    """A checkpoint cannot be read or written."""


class NotCommittedError(CheckpointError):
    """A folder of a checkpoint whose commit was never written: nobody was told that it is saved."""


class ResumeError(InputError):
    """A run of this name exists and the command does not fit it."""


class LeaseError(InputError):
    """Another process holds the run."""


class LeaseLostError(GanError):
    """This process held the run, and another took it over."""


class PeerLostError(GanError):
    """Another rank is gone, or did not come to a reduction in time."""


class LeavingError(GanError):
    """This attempt ends on purpose, saved, so that the next one runs elsewhere."""


class TrainingError(GanError):
    """Training cannot go on: numbers stay non-finite, a store stays away, workers keep dying."""
