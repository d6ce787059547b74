"""The slates that a running service shows: read from Redis, as a shop's web server would."""

from collections.abc import Sequence
from typing import Any

import msgspec
import redis

from ops.service import ServiceUnavailable
from ops.simulate.shoppers.traffic import Slate
from streams.contract import Recommendation

SECONDS = 5.0


class RedisSlates:
    """Raises ServiceUnavailable where Redis does not answer at first; later, as in a shop, nobody has a slate then."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=SECONDS)
        self._key = f"{prefix}recs:"
        self._decode = msgspec.json.Decoder(Recommendation).decode
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise ServiceUnavailable(f"no Redis answers, which has the slates (--no-slates: none): {error}") from error

    def __call__(self, user_ids: Sequence[str]) -> list[Slate | None]:
        """The present slate of each user, None for one who has none."""
        if not user_ids:
            return []
        try:
            found: Any = self._client.mget([self._key + user_id for user_id in user_ids])
        except redis.RedisError:
            return [None] * len(user_ids)
        return [None if payload is None else self._slate(payload) for payload in found]

    def close(self) -> None:
        self._client.close()

    def _slate(self, payload: bytes) -> Slate:
        shown = self._decode(payload)
        in_order = sorted(shown.items, key=lambda item: item.position)
        return Slate(shown.recommendation_id, shown.policy, [item.item_id for item in in_order])
