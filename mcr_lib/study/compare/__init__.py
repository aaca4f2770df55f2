"""Run folders over several seeds, merged and tested."""
