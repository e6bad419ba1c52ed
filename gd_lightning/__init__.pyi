"""The public names of gd_lightning, listed once: ``__init__.py`` reads them from here."""

from gd_lightning.affine import Affine as Affine
__version__: str
