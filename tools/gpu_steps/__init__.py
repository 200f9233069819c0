"""The steps of tools/gpu_check. Most modules are programs of their own: ``python -m gpu_steps.smoke``, with tools/ on the path."""
