"""Which packages a wheel holds; everything else is in pyproject.toml, where packages are found or listed, not both."""

from setuptools import find_namespace_packages, find_packages, setup

plugins = find_namespace_packages(include=["hydra_plugins.*"])  # Hydra wants no __init__.py in hydra_plugins itself
setup(packages=[*find_packages(include=["irexp", "irexp.*"]), "irexp.conf", *plugins])
