"""The integrations with other libraries. Their compilers keep gigabytes of code: run this folder by itself."""

from pathlib import Path

import folders

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path, config):
    return None if folders.is_alone(config, HERE) else True
