"""Budgets of the language model: tokens of one incident, calls of an hour, dollars of a month.

Checked before every call, against what the database says was spent, so a restart resets nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from errors import BudgetExhausted
from incidents.database import utcnow
from incidents.usage import Spent, UsageStore
from settings import LlmSettings, ModelPrice


@dataclass(frozen=True)
class Reservation:
    """A call that may be made; `input_tokens` is the estimate it was let through with."""

    row_id: int
    input_tokens: int


class Budget:
    """The limits of `settings.llm` for one model (`provider:NAME`). Prices are looked up by that, then by NAME."""

    def __init__(
        self, model: str, settings: LlmSettings, usage: UsageStore, now: Callable[[], datetime] = utcnow
    ) -> None:
        self._model = model
        self._settings = settings
        self._usage = usage
        self._now = now

    @property
    def price(self) -> ModelPrice | None:
        prices = self._settings.prices
        return prices.get(self._model) or prices.get(self._model.partition(":")[2])

    async def reserve(self, incident_id: str | None, *, input_tokens: int, output_tokens: int) -> Reservation:
        """Claim the highest cost of a call. Raises BudgetExhausted naming the budget that does not allow it."""
        usd = self._usd(input_tokens, output_tokens)

        def allow(spent: Spent) -> None:
            limits = self._settings
            if spent.calls_last_hour >= limits.calls_per_hour:
                raise BudgetExhausted(f"the hour's budget of {limits.calls_per_hour} calls is used up")
            if incident_id is not None:
                left = limits.tokens_per_incident - spent.incident_tokens
                if input_tokens + output_tokens > left:
                    raise BudgetExhausted(
                        f"the incident's budget of {limits.tokens_per_incident} tokens has {max(left, 0)} left; "
                        f"the next call may need {input_tokens + output_tokens}"
                    )
            if usd is not None and spent.usd_this_month + usd > limits.usd_per_month:
                raise BudgetExhausted(
                    f"the month's budget of ${limits.usd_per_month:.2f} is used up (${spent.usd_this_month:.2f} spent)"
                )

        row = await self._usage.reserve(
            self._model,
            incident_id,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            usd=usd,
            now=self._now(),
            allow=allow,
        )
        return Reservation(row, input_tokens)

    async def settle(self, reservation: Reservation, *, input_tokens: int, output_tokens: int) -> None:
        """Record what the call really used, as the server counted it."""
        await self._usage.settle(
            reservation.row_id,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            usd=self._usd(input_tokens, output_tokens),
        )

    async def tokens_left(self, incident_id: str) -> int:
        """What the incident's calls may still use, input and output together."""
        spent = await self._usage.spent(incident_id, self._now())
        return max(self._settings.tokens_per_incident - spent.incident_tokens, 0)

    async def describe(self, incident_id: str | None = None) -> str:
        """One sentence: what is spent. Calls without a price make the money unknown, and it says so."""
        spent = await self._usage.spent(incident_id, self._now())
        limits = self._settings
        money = f"${spent.usd_this_month:.4f} of ${limits.usd_per_month:.2f} this month"
        if spent.unpriced_this_month:
            money += f", not counting {spent.unpriced_this_month} calls of unknown cost"
        if self.price is None:
            money += f"; {self._model} has no price in llm.prices, so the money budget does not limit it"
        return f"{spent.calls_last_hour} of {limits.calls_per_hour} calls this hour; {money}"

    def _usd(self, input_tokens: int, output_tokens: int) -> float | None:
        price = self.price
        if price is None:
            return None
        return (input_tokens * price.input + output_tokens * price.output) / 1_000_000
