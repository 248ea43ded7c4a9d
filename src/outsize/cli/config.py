"""Read a YAML file of options: one mapping, the keys are the option names with `-` or `_`."""

from pathlib import Path
from typing import Any

import yaml

from outsize.errors import UsageError


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that is written twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value).replace("-", "_")
            if key in seen:
                raise UsageError(
                    f"{self.name}, line {key_node.start_mark.line + 1}: {key} is written twice."
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[str, object]:
    """Read the settings of a file by key, with underscores.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is not one mapping of options.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_Loader)
    except OSError as error:
        raise UsageError(f"The config file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The config file {path} is not UTF-8 text.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"The config file {path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(
            f"The config file {path} must hold one mapping of options, such as `steps: 20`."
        )
    return {key.replace("-", "_"): value for key, value in content.items()}
