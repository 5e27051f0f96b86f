"""MLflow's own modules warn while they are imported; that is none of ours."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc  # noqa: F401 # imported for its warnings only
