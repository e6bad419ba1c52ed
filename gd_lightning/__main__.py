"""``python -m gd_lightning``."""

from gd_lightning.cli import run

if __name__ == "__main__":
    run()
