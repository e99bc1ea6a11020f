"""Engine processes that find this on their path believe that they are on a Mac.

What a package imports by platform is imported before, since the machine is still another one.
"""

import sys

if "mlxft.engine" in sys.orig_argv:
    import platform

    import psutil  # noqa: F401

    import mlxft.compute.backend
    import mlxft.engine.training
    import mlxft.telemetry.sampler

    if "measure" in sys.orig_argv:
        import mlxft.compute.measuring.measure
    if "train" in sys.orig_argv:
        import mlxft.compute.training.session  # noqa: F401
    sys.platform = "darwin"
    platform.system = lambda: "Darwin"
    platform.machine = lambda: "arm64"
