"""Which packages a wheel holds; everything else is in pyproject.toml, where packages are found or listed, not both."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["irexp", "irexp.*"]), "irexp.conf", "hydra_plugins.irexp_launcher"])
