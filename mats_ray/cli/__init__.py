"""The `mats` command."""
