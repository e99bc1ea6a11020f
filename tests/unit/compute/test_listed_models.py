"""Transformers' models, which it lists once at an engine's start instead of twice."""

from __future__ import annotations

import sys

from transformers.utils.import_utils import define_import_structure

from mlxft.compute import backend as backend  # Imports transformers as an engine does.


def test_they_are_those_that_transformers_lists_itself() -> None:
    models = sys.modules["transformers.models"]
    listed = type(models)(
        models.__name__, models.__file__, define_import_structure(models.__file__)
    )
    assert models._class_to_module == listed._class_to_module
    assert models._modules == listed._modules
    assert models._object_missing_backend == listed._object_missing_backend
