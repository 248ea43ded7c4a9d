"""The text that every Python carries: the language reference, one document per topic.

Its text differs a little from one Python version to the next, so its identity is the hash of its
text.
"""

from collections.abc import Iterator

BUILTIN_NAME = "builtin:python-reference"


def reference_topics() -> Iterator[tuple[str, str]]:
    """Yield (title, text) of every topic, in the order of the titles."""
    from pydoc_data.topics import topics

    yield from sorted(topics.items())
