"""Packaging lives in setup.cfg; this adds celeryconfig.py, which stands beside the package, to the wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCeleryConfig(build_py):
    """Pack the root's celeryconfig.py inside the package, where no host's file of that name shadows it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file("celeryconfig.py", str(Path(self.build_lib, "approval_mail", "celeryconfig.py")))


setup(cmdclass={"build_py": BuildWithCeleryConfig})
