"""What a chat template may use, as data: exact names, taken from templates of published models.

Attribute *reads* on messages and tools are free as long as the name has no leading underscore; calls,
filters and tests are not. A name that is not here makes the template `incomplete`; a name in REFUSED,
which chat templates never need and escapes are built from, refuses it.
"""

FUNCTIONS = frozenset({"raise_exception", "strftime_now", "namespace", "range", "dict", "caller"})

METHODS = frozenset(
    """
    split rsplit splitlines partition rpartition strip lstrip rstrip startswith endswith upper lower title
    capitalize replace removeprefix removesuffix find rfind index count join isdigit isalpha isalnum isspace
    items keys values get append extend insert pop update copy strftime isoformat
    """.split()  # noqa: SIM905 - a list of this length is read as words
)

FILTERS = frozenset(
    """
    abs batch bool capitalize count d default dictsort e escape first float forceescape groupby indent int
    items join last length list lower map max min reject rejectattr replace reverse round safe select
    selectattr slice sort string striptags sum title tojson trim truncate unique upper wordcount
    """.split()  # noqa: SIM905 - a list of this length is read as words
)

TESTS = frozenset(
    """
    boolean callable defined divisibleby eq equalto == != < > <= >= even false filter float ge greaterthan gt
    in integer iterable le lessthan lower lt mapping ne none number odd sameas sequence string test true
    undefined upper
    """.split()  # noqa: SIM905 - a list of this length is read as words
)

REFUSED = frozenset(
    """
    self request config application url_for get_flashed_messages lipsum cycler joiner g session context
    environment os sys subprocess builtins eval exec open compile import_module getattr setattr globals locals
    vars type object
    """.split()  # noqa: SIM905 - a list of this length is read as words
)

# Attributes that lead from harmless objects to the interpreter even without a leading underscore.
REFUSED_ATTRIBUTES = frozenset(
    """
    mro func_globals func_code gi_frame gi_code gi_yieldfrom cr_frame cr_code ag_frame ag_code tb_frame f_globals
    f_builtins f_locals f_code popen system environ blueprint application format format_map encode decode
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
