"""What can be wrong with a job.

JobError                  the job cannot run, or cannot go on
├── SpecError             the job is spelled wrongly
└── SourceError           the source cannot be listed, or stops answering
"""


class JobError(Exception):
    """What `pinakes.jobs` raises. What was committed before it is safe."""


class SpecError(JobError):
    """A job file or an option that does not say what it should."""


class SourceError(JobError):
    """A source that is missing, may not be read or is spelled wrongly, or a manifest that is not one."""
