"""What goes wrong with the form of a job, a name or a schedule."""


class EncodeError(ValueError):
    """An argument or a result cannot be written down.

    Raised by `delay` and its kin before anything is enqueued, with the argument and the path to the value
    within it; for a result by the worker, where the job fails with it.
    """


class DecodeError(ValueError):
    """A payload or a result that the store has cannot be read back.

    Raised where a newer roving wrote it, where it is damaged, or where the task has changed since: a type
    that is no longer registered, a dataclass that its annotations no longer name. The job fails, and is kept.
    """


class ScheduleError(ValueError):
    """A cron expression, a time zone or an interval that makes no schedule. The message says which field."""
