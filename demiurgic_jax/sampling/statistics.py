"""What an engine has done since it was made."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class EngineStatistics:
    """Totals. Of `prompt_tokens`, `cached_prompt_tokens` were found in the cache and not computed again; of
    `drafted_tokens`, guesses of what comes next, `accepted_tokens` were right. `busy_seconds` is the time in which
    the engine had something to do."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    requests_finished: int = 0
    requests_cancelled: int = 0
    requests_failed: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    busy_seconds: float = 0.0

    @property
    def requests_done(self) -> int:
        """Requests that ended, one way or the other."""
        return self.requests_finished + self.requests_cancelled + self.requests_failed

    def plus(self, **more: float) -> "EngineStatistics":
        """These with more added to the named ones."""
        return EngineStatistics(
            **{each.name: getattr(self, each.name) + more.get(each.name, 0) for each in fields(self)}
        )
