"""What this cluster cannot do says so when it is used."""


class LanguageNotAvailable(RuntimeError):
    pass


class DataSourceNotAvailable(RuntimeError):
    pass
