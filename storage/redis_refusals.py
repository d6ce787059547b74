"""Why Redis and this client do not accept each other, told apart from a Redis that is away."""

import ssl

import redis
from redis.exceptions import AuthenticationError, NoPermissionError

#: What a script is told that reaches beyond its user's rights.
BEYOND_RIGHTS = "The user executing the script can't"
IN_PIPELINE = " of pipeline caused error: "
#: Reason -> in words, with what to do.
REMEDIES = {
    "authentication": "Redis does not know this user or password; correct HEADGATE_REDIS",
    "authorization": "Redis does not allow this user what Headgate needs; docs/security.md has the ACL",
    "tls": "Redis is not trusted; its certificate must be valid, of the host in HEADGATE_REDIS, and signed by "
    "an authority in ssl_ca_certs",
}


def refusal_of(error: BaseException) -> str | None:
    """ "authentication", "authorization" or "tls"; None where Redis merely cannot be reached or had a failure."""
    if isinstance(error, AuthenticationError):
        return "authentication"
    if isinstance(error, NoPermissionError) or (isinstance(error, redis.ResponseError) and BEYOND_RIGHTS in str(error)):
        return "authorization"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    return None


def in_words(error: redis.RedisError) -> str:
    """One line; of a pipeline without the command that failed, which holds what was to be written."""
    _, _, own = str(error).partition(IN_PIPELINE)
    said = " ".join((own or str(error)).split())
    reason = refusal_of(error)
    return said if reason is None else f"{REMEDIES[reason]} ({said})"
