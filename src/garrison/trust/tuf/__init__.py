"""The approved-version list as TUF metadata: made (`build`), judged (`check`), and remembered (`pins`)."""
