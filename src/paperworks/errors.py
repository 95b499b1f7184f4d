"""The errors a user can mend. The command line prints their message, without a traceback, and exits with status 2."""


class PaperworksError(Exception):
    """Something the user can mend; the message says what is wrong and what to do next."""


class DataFileError(PaperworksError, ValueError):
    """A data file that is missing, broken or not laid out as expected."""


class ModelFolderError(PaperworksError, ValueError):
    """A saved model (`config.json`, `recipe.json`, `model.safetensors`) that cannot be read."""


class CardError(PaperworksError, ValueError):
    """A paper's `card.md` that does not parse."""


class SettingError(PaperworksError, ValueError):
    """A setting that the study or recipe does not have, or that has the wrong type."""


class LedgerError(PaperworksError):
    """A ledger of finished trials that cannot be opened, read or written."""


class MissingExtraError(PaperworksError, ImportError):
    """An optional package is absent; the message names the pip command."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs {package}, which is not installed. Run: pip install 'paperworks[{extra}]'")
