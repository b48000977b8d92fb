"""Makes hostile and harmless pickles, named by the trick. Payloads only say `echo garrison-test`; none is loaded.

`GADGETS` are callables of published advisories and what is like them: each alone runs code, reads or writes
files, or reaches the network. `TRICKS` hide one call from scanners that look for names, prefixes or opcodes.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import pickle
import struct
import zlib

from tests.vectors.artifacts.make import PAYLOAD, SYSTEM, called, called_text, joblib_array, short, zipped

GADGETS = """
_aix_support._read_cmd_output _io.FileIO _io.open _osx_support._read_output _osx_support.compiler_fixup
_posixsubprocess.fork_exec _pyrepl.pager.pipe_pager _xxsubinterpreters.run_string _interpreters.exec
aiohttp.client.ClientSession ast.literal_eval
asyncio.run asyncio.create_subprocess_shell asyncio.unix_events._UnixSubprocessTransport._start atexit.register
bdb.Bdb.run bdb.Bdb.runeval builtins.__import__ builtins.apply builtins.breakpoint builtins.compile builtins.delattr
builtins.eval builtins.exec builtins.execfile builtins.getattr builtins.globals builtins.input builtins.locals
builtins.map builtins.filter builtins.zip builtins.open builtins.setattr builtins.vars builtins.super
builtins.__build_class__ builtins.memoryview builtins.iter builtins.next builtins.sorted builtins.max builtins.print
cProfile.run cProfile.runctx cgitb.handler code.InteractiveInterpreter code.interact codeop.compile_command
codecs.open codecs.decode
cloudpickle.cloudpickle._builtin_type cloudpickle.cloudpickle._make_function cloudpickle.cloudpickle.subimport
cloudpickle.loads collections.namedtuple commands.getoutput compileall.compile_dir compileall.compile_file
concurrent.futures.ProcessPoolExecutor configparser.ConfigParser copy.copy copyreg.__newobj__ copyreg.add_extension
copyreg.pickle csv.reader
ctypes.CDLL ctypes.PyDLL ctypes.WinDLL ctypes.cdll.LoadLibrary ctypes.util.find_library ctypes.CFUNCTYPE
dbm.open dbm.dumb.open dill.loads dill._dill._create_code dill._dill._create_function dill._dill._eval_repr
dill._dill._get_attr dill._dill._import_module distutils.core.run_setup distutils.spawn.spawn
doctest.debug_script doctest.testfile email.message_from_file ensurepip._run_pip ensurepip.bootstrap enum.Enum
faulthandler.register fileinput.FileInput fileinput.input ftplib.FTP functools.reduce functools.singledispatch
functools.cached_property functools.partialmethod gc.get_objects getpass.getpass glob.glob gzip.open bz2.open
http.client.HTTPConnection http.client.HTTPSConnection http.server.test httplib.HTTP httpx.get
idlelib.autocomplete.AutoComplete.fetch_completions idlelib.autocomplete.AutoComplete.get_entity
idlelib.calltip.Calltip.fetch_tip idlelib.calltip.get_entity idlelib.debugobj.ObjectTreeItem.SetText
idlelib.pyshell.ModifiedInterpreter.runcode idlelib.pyshell.ModifiedInterpreter.runcommand idlelib.run.Executive.runcode
imaplib.IMAP4 imaplib.IMAP4_stream imp.load_source importlib.import_module importlib.__import__ importlib.reload
importlib.machinery.SourceFileLoader importlib.util.spec_from_file_location inspect.getsource io.open io.FileIO
io.open_code itertools.starmap joblib.load joblib.memory.Memory joblib.numpy_pickle.load json.load jsonpickle.decode
keras.models.load_model lib2to3.pgen2.grammar.Grammar.loads lib2to3.pgen2.pgen.ParserGenerator.make_label linecache.getline
linecache.getlines logging.FileHandler logging.config.fileConfig logging.config._resolve logging.config.listen
lzma.open mailbox.mbox marshal.load marshal.loads mimetypes.read_mime_types mmap.mmap
modulefinder.ModuleFinder.run_script multiprocessing.managers.BaseManager.start multiprocessing.process.BaseProcess
multiprocessing.pool.Pool multiprocessing.util.spawnv_passfds multiprocessing.reduction.rebuild_socket
multiprocessing.shared_memory.SharedMemory netrc.netrc nntplib.NNTP nt.system
ntpath.walk numpy.core.multiarray.fromfile numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran._eval_length
numpy.f2py.crackfortran.param_eval numpy.f2py.crackfortran.myeval numpy.f2py.diagnose.run numpy.fromfile
numpy.fromregex numpy.genfromtxt
numpy.lib.npyio.DataSource numpy.lib.npyio.load numpy.lib.npyio.loadtxt numpy.lib._npyio_impl.load numpy.load
numpy.loadtxt numpy.memmap numpy.save numpy.savez numpy.testing._private.utils.runstring numpy.distutils.exec_command.exec_command
numpy.apply_along_axis numpy.frompyfunc numpy.ctypeslib.load_library numpy.__builtins__ numpy.os.system
operator.attrgetter operator.methodcaller operator.call operator.setitem operator.concat optparse.OptionParser
os.chmod os.environ os.execl os.execve os.fdopen os.fork os.getenv os.kill os.listdir os.mkdir os.open os.popen
os.putenv os.remove os.rename os.rmdir os.spawnl os.spawnv os.startfile os.symlink os.system os.unlink os.write
os.path.exists pandas.eval pandas.read_csv pandas.read_pickle pandas.io.common.urlopen pandas.io.pickle.read_pickle
pandas.core.computation.eval.eval pandas.core.frame.DataFrame.eval pathlib.Path.unlink pathlib.Path.write_text
pdb.Pdb.run pdb.run pdb.runeval pickle.Unpickler pickle.load pickle.loads _pickle.loads cPickle.loads pickletools.dis
pip.main pip._internal.cli.main.main pip._internal.main pip._vendor.distlib.scripts.ScriptMaker pipes.Template
pkg_resources.run_script pkgutil.resolve_name pkgutil.get_data platform.popen platform._syscmd_ver plistlib.load
plistlib.loads poplib.POP3 posix.execve posix.fork posix.open posix.popen posix.posix_spawn posix.system
posixpath.expandvars profile.Profile.run profile.Profile.runctx profile.run pty.spawn pty.fork py_compile.compile
pyclbr.readmodule pydoc.locate pydoc.pipepager pydoc.tempfilepager pydoc.render_doc pyexpat.ParserCreate
queue.SimpleQueue random._os.system random.Random.setstate readline.read_init_file reprlib.os
requests.get requests.api.request requests.post resource.setrlimit rlcompleter.Completer.attr_matches
runpy._run_code runpy.run_module runpy.run_path sched.scheduler scipy.io.loadmat scipy.io.netcdf_file
scipy.io.mmread select.poll setuptools.sandbox.run_setup
setuptools.sandbox._execfile shelve.open shlex.split shutil.copy shutil.move shutil.rmtree shutil.unpack_archive signal.signal
site.addpackage site.execsitecustomize sklearn.datasets.fetch_openml sklearn.datasets.load_files
sklearn.datasets.load_svmlight_file smtplib.SMTP socket.create_connection socket.socket
socketserver.TCPServer sqlite3.connect ssl.get_server_certificate ssl.SSLContext.wrap_socket ssl.create_default_context
stat.S_ISDIR statistics.os string.Formatter.vformat string.Template.substitute
subprocess.Popen subprocess.call subprocess.check_call subprocess.check_output subprocess.getoutput
subprocess.getstatusoutput subprocess.run symtable.symtable sympy.parsing.sympy_parser.eval_expr
sys.exit sys.modules sys.settrace sys.setprofile sysconfig._generate_posix_vars sysconfig.get_config_vars tarfile.open telnetlib.Telnet tempfile.mkstemp
tensorflow.py_function tensorflow.io.read_file tensorflow.keras.models.load_model
test.support.script_helper.assert_python_ok test.support.run_in_subinterp threading.Thread threading.Timer
timeit.main timeit.repeat timeit.timeit timeit.Timer tkinter.Tcl tokenize.open
torch.classes.load_library torch.compile torch.hub.load torch.jit.load torch.jit.unsupported_tensor_ops.execWrapper
torch.load torch.save torch.ops.load_library torch._C.PyTorchFileReader torch.from_file torch.UntypedStorage.from_file
torch._dynamo.guards.GuardBuilder.get torch._inductor.codecache.compile_file torch._inductor.codecache.PyCodeCache.load
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression torch.fx._symbolic_trace.Tracer
torch.fx.graph_module._deserialize_graph_module torch.fx.graph_module.reduce_graph_module
torch.multiprocessing.spawn torch.package.PackageImporter torch.serialization.load torch.storage.torch.load
torch.utils.bottleneck.__main__.run_cprofile torch.utils.bottleneck.__main__.run_autograd_prof
torch.utils.collect_env.run torch.utils._config_module.ConfigModule.load_config torch.utils.cpp_extension.load
torch.utils.cpp_extension.load_inline torch.utils.data.datapipes.utils.decoder.basichandlers
torch.utils.data.datapipes.iter.fileopener.FileOpenerIterDataPipe torch.utils.model_dump.main
torch.distributed.rpc.rpc_sync torch.distributed.init_process_group torch.nn.Module.load_state_dict
trace.Trace.run trace.Trace.runctx trace.main traceback.print_exc
transformers.dynamic_module_utils.get_class_from_dynamic_module transformers.pipeline
turtle.os turtledemo.__main__.DemoWindow types.CodeType types.FunctionType types.MethodType types.ModuleType
types.DynamicClassAttribute types.coroutine typing.get_type_hints unittest.mock._importer unittest.main
urllib.request.urlopen urllib.request.urlretrieve urllib.request.Request urllib.urlopen urllib2.urlopen uu.decode
uuid._get_command_stdout
venv.create venv.main warnings.catch_warnings wave.open weakref.finalize webbrowser.get webbrowser.open
wsgiref.simple_server.make_server xml.etree.ElementTree.parse xml.sax.parse xmlrpc.client.ServerProxy
xmlrpc.server.SimpleXMLRPCServer yaml.load yaml.unsafe_load zipapp.create_archive zipfile.ZipFile zipimport.zipimporter
zlib.decompress IPython.core.interactiveshell.InteractiveShell.system fabric.Connection paramiko.SSHClient
fsspec.open boto3.client psycopg2.connect pymysql.connect numba.core.serialize._rebuild_function numexpr.evaluate
mlflow.pyfunc.load_model onnxruntime.InferenceSession xgboost.core.Booster.load_model lightgbm.basic._load_lib
__main__.Payload __builtin__.eval __builtin__.file antigravity.webbrowser this.s
""".split()


def text(value: str | bytes) -> bytes:
    """BINUNICODE, of any length."""
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(module: str, attribute: str) -> bytes:
    """Import one name: two texts and STACK_GLOBAL."""
    return short(module) + short(attribute) + b"\x93"


P4 = b"\x80\x04"
CALL = name("os", "system") + short(PAYLOAD) + b"\x85R"
_EVIL_TEMPLATE = "import os; os.system('echo garrison-test')"


def _nested(data: bytes, depth: int) -> bytes:
    for _ in range(depth):
        data = P4 + b"B" + struct.pack("<I", len(data)) + data + b"."
    return data


def _distribution(template: str, maker: bytes = b")\x81") -> bytes:
    """A scipy distribution: `rv_generic.__setstate__` runs `_parse_arg_template` of its state with exec."""
    made = name("scipy.stats._continuous_distns", "norm_gen") + maker
    return P4 + made + b"}" + short("_parse_arg_template") + text(template) + b"sb."


def _old_joblib(after: bytes) -> bytes:
    """An array without alignment padding: what joblib takes for data, `pickle.load` runs."""
    whole = joblib_array()
    cut = whole.index(short("allow_mmap"))
    return whole[:cut] + b"ub" + after.ljust(32, b"\0") + b"."


POISON = name("types", "SimpleNamespace") + b")\x81}"

# name -> (pickle, a part of the line that names what would run)
TRICKS: dict[str, tuple[bytes, str]] = {
    "protocol0": (called_text("os", "system"), "os.system('echo garrison-test')"),
    "protocol0_unicode_escape": (b"V\\u006fs\nVsyst\\u0065m\n\x93" + short(PAYLOAD) + b"\x85R.", "os.system("),
    "protocol0_string_escape": (b"S'o\\x73'\nS'syste\\155'\n\x93" + short(PAYLOAD) + b"\x85R.", "os.system("),
    "inst": (b"(S'" + PAYLOAD + b"'\nios\nsystem\n.", "os.system("),
    "inst_without_arguments": (b"(iantigravity\nfly\n.", "antigravity.fly"),
    "obj": (b"(cos\nsystem\nS'" + PAYLOAD + b"'\no.", "os.system("),
    "newobj": (P4 + name("subprocess", "Popen") + short(PAYLOAD) + b"\x85\x81.", "subprocess.Popen("),
    "newobj_ex": (P4 + name("subprocess", "Popen") + short(PAYLOAD) + b"\x85}\x92.", "subprocess.Popen("),
    "name_from_memo": (P4 + short("os") + b"\x94" + short("system") + b"\x9400h\x00h\x01\x93" + short(PAYLOAD)
                       + b"\x85R.", "os.system("),
    "name_from_dup": (P4 + short("os") + b"200" + CALL + b".", "os.system("),
    "name_computed": (P4 + name("builtins", "str") + short("os") + b"\x85R" + short("system") + b"\x93"
                      + short(PAYLOAD) + b"\x85R.", "not a constant"),
    "name_computed_by_encode": (P4 + name("_codecs", "encode") + short("os") + b"\x85R" + short("system") + b"\x93"
                                + short(PAYLOAD) + b"\x85R.", "not a constant"),
    "name_longer_than_is_held": (P4 + text("a" * 5000) + short("x") + b"\x93)R.", "not a constant"),
    "number_in_octal_first": (b"I010\n0" + called_text("os", "system"), "os.system("),
    "number_with_zero_byte_first": (b"I1\0junk\n0" + called_text("os", "system"), "os.system("),
    "long_with_zero_byte_first": (b"L1\0junk\n0" + called_text("os", "system"), "os.system("),
    "float_with_zero_byte_first": (b"F1\0junk\n0" + called_text("os", "system"), "os.system("),
    "memo_key_with_zero_byte": (b"cos\nsystem\np5\0junk\n0g5\n(S'" + PAYLOAD + b"'\ntR.", "os.system("),
    "build_of_nothing_on_a_number": (b"I1\nNb0" + called_text("os", "system"), "os.system("),
    "appends_nothing_to_a_number": (b"I1\n(e0" + called_text("os", "system"), "os.system("),
    "bytearray_that_grows": (b"\x80\x05\x96" + struct.pack("<Q", 1) + b"aK\x01a0" + CALL + b".", "os.system("),
    "frame_that_lies": (P4 + b"\x95" + struct.pack("<Q", 3) + CALL + b".", "os.system("),
    "frame_longer_than_the_file": (P4 + b"\x95" + struct.pack("<Q", 1 << 40) + CALL + b".", "os.system("),
    "giant_number_as_argument": (P4 + name("os", "system") + b"\x8b" + struct.pack("<I", 4096) + b"\x7f" * 4096
                                 + b"\x85R.", "os.system("),
    "giant_number_before": (P4 + b"\x8b" + struct.pack("<I", 90_000) + b"\x7f" * 90_000 + b"0" + CALL + b".",
                            "os.system("),
    "deep_tuples_around": (P4 + b")" + b"\x85" * 50_000 + b"0" + CALL + b".", "os.system("),
    "deep_marks_around": (P4 + b"(" * 50_000 + CALL + b".", "os.system("),
    "opcodes_before": (P4 + b"N0" * 100_000 + CALL + b".", "os.system("),
    "stop_first": (P4 + b"N." + P4 + CALL + b".", "os.system("),
    "stop_first_then_protocol0": (P4 + b"N." + called_text("os", "system"), "os.system("),
    "zeros_between": (SYSTEM + bytes(4096), "posix.system("),
    "no_stop": (P4 + CALL, "os.system("),
    "broken_after": (P4 + CALL + b"\xff\xff", "os.system("),
    "extension_1": (P4 + b"\x82\x01)R.", "copyreg registry"),
    "extension_2": (P4 + b"\x83\x01\x01)R.", "copyreg registry"),
    "extension_4": (P4 + b"\x84\x01\x01\x01\x01)R.", "copyreg registry"),
    "extension_added_first": (P4 + name("copyreg", "add_extension") + short("os") + short("system") + b"K\x07\x87R0\x82\x07"
                              + short(PAYLOAD) + b"\x85R.", "copyreg.add_extension('os', 'system', 7)"),
    "persistent_id_text": (b"(lp0\n0Pid\n0" + called_text("os", "system"), "os.system("),
    "persistent_id_value": (P4 + short("storage") + b"Q0" + CALL + b".", "os.system("),
    "persistent_id_is_the_function": (P4 + b"(" + short("module") + name("os", "system") + short("a") + short("b")
                                      + b"tQ" + short(PAYLOAD) + b"\x85R.", "os.system("),
    "dotted_through_an_allowed_module": (called("torch.serialization", "os.system"), "torch.serialization.os.system("),
    "dotted_through_an_allowed_name": (called("collections", "OrderedDict.__init__.__globals__"), "__globals__"),
    "dotted_module": (called("torch.storage.torch", "load"), "torch.storage.torch.load("),
    "builtins_through_numpy": (called("numpy", "__builtins__.eval"), "numpy.__builtins__.eval("),
    "case_of_an_allowed_name": (called("Collections", "ordereddict"), "Collections.ordereddict("),
    "space_in_the_module": (called("os ", "system"), "os .system("),
    "build_on_an_import": (b"\x80\x02ccollections\nOrderedDict\n}" + short("__setstate__") + b"Nsb.", "sets attributes"),
    "build_on_a_class_from_type": (P4 + name("builtins", "type") + name("types", "SimpleNamespace") + b")R\x85RN}"
                                   + short("a") + b"K\x01s\x86b.", "sets attributes"),
    "setitems_on_an_import": (P4 + name("types", "SimpleNamespace") + b"(" + short("a") + b"K\x01u.", "adds items"),
    "append_on_an_import": (P4 + name("collections", "deque") + b"K\x01a.", "adds items"),
    "setstate_put_on_an_object": (P4 + POISON + short("__setstate__") + name("numpy", "dtype") + b"sb" + short(PAYLOAD)
                                  + b"b.", "__setstate__"),
    "append_put_on_an_object": (P4 + POISON + short("append") + name("numpy", "dtype") + b"sb" + short(PAYLOAD) + b"a.",
                                "append"),
    "class_changed_by_slots": (P4 + name("types", "SimpleNamespace") + b")\x81N}" + short("__class__")
                               + name("numpy", "ndarray") + b"s\x86b.", "__class__"),
    "poison_by_setitem": (P4 + name("sklearn.utils._bunch", "Bunch") + b")\x81" + short("extend") + name("numpy", "dtype")
                          + b"s.", "extend"),
    "loader_handed_to_numpy": (P4 + name("numpy.random._pickle", "__generator_ctor") + b"C\x1e" + b"I1\n0" + SYSTEM[:26]
                               + name("torch.storage", "_load_from_bytes") + b"\x86R.", "_load_from_bytes"),
    "loader_handed_to_partial": (P4 + name("functools", "partial") + name("torch.storage", "_load_from_bytes") + b"\x85R.",
                                 "_load_from_bytes"),
    "loader_as_a_factory": (P4 + name("collections", "defaultdict") + name("torch.storage", "_load_from_bytes") + b"\x85R.",
                            "_load_from_bytes"),
    "loader_as_a_value": (P4 + b"}" + short("a") + name("torch.storage", "_load_from_bytes") + b"s.", "_load_from_bytes"),
    "loader_as_the_result": (P4 + name("torch.storage", "_load_from_bytes") + b".", "_load_from_bytes"),
    "loader_of_computed_bytes": (P4 + name("torch.storage", "_load_from_bytes") + name("builtins", "bytes") + b"(K\x01K\x02lR"
                                 + b"\x85R.", "_load_from_bytes"),
    "getattr_of_anything": (P4 + name("builtins", "getattr") + name("zoneinfo", "ZoneInfo") + short("__init__") + b"\x86R.",
                            "builtins.getattr(zoneinfo.ZoneInfo, '__init__')"),
    "getattr_as_the_result": (P4 + name("builtins", "getattr") + b".", "builtins.getattr"),
    "zone_outside": (P4 + name("zoneinfo", "ZoneInfo") + short("../../etc/passwd") + b"\x85R.", "../../etc/passwd"),
    "partial_of_a_bad_name": (P4 + name("functools", "partial") + name("os", "system") + short(PAYLOAD) + b"\x86R)R.",
                              "functools.partial(os.system"),
    "result_is_called": (P4 + name("functools", "partial") + name("builtins", "int") + b"\x85R)R.", "calls a computed value"),
    "reconstructor_of_a_bad_class": (b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
                                     "copyreg._reconstructor(subprocess.Popen"),
    "reconstructor_with_a_bad_base": (b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nctorch\nTensor\nNtR.",
                                      "copyreg._reconstructor("),
    "retype_calls_a_loader": (P4 + name("torch._tensor", "_rebuild_from_type_v2") + b"(" + name("torch", "load")
                              + name("torch", "Tensor") + short("x") + b"\x85Nt" + b"R.", "torch.load('x')"),
    "constructor_that_works": (P4 + name("transformers.training_args", "TrainingArguments") + short("/tmp/x") + b"\x85R.",
                               "TrainingArguments('/tmp/x')"),
    "constructor_that_allocates": (P4 + name("torch.nn.modules.linear", "Linear") + b"J\xff\xff\xff\x7f2\x86R.",
                                   "torch.nn.modules.linear.Linear("),
    "booster_from_a_path": (P4 + name("xgboost.core", "Booster") + short("/etc/passwd") + b"\x85R.", "xgboost.core.Booster("),
    "metric_called": (P4 + name("sklearn.metrics.pairwise", "pairwise_distances") + b")R.", "pairwise_distances("),
    "scipy_state_runs": (_distribution(_EVIL_TEMPLATE), "exec("),
    "scipy_state_computed": (_distribution(_EVIL_TEMPLATE)[:-3].replace(text(_EVIL_TEMPLATE), name("builtins", "str")
                             + short("x") + b"\x85R") + b"sb.", "exec("),
    "scipy_template_with_more": (_distribution("\ndef _parse_args(self,  loc=0, scale=1):\n    return (), loc, scale\n\n"
                                 + _EVIL_TEMPLATE), "exec("),
    "scipy_by_another_maker": (P4 + name("pandas.core.indexes.base", "_new_Index")
                               + name("scipy.stats._continuous_distns", "norm_gen") + b"}\x86R.", "norm_gen"),
    "ufunc_from_elsewhere": (P4 + name("numpy.core", "_ufunc_reconstruct") + short("os") + short("system") + b"\x86R.",
                             "_ufunc_reconstruct('os', 'system')"),
    "codec_with_effects": (P4 + name("_codecs", "encode") + short("x") + short("zlib_codec") + b"\x86R.", "zlib_codec"),
    "type_with_bases": (P4 + name("builtins", "type") + b"(" + short("X") + b")}tR.", "builtins.type("),
    "fraction_of_a_billion_digits": (P4 + name("fractions", "Fraction") + short("1e999999999") + b"\x85R.", "1e999999999"),
    "range_without_end": (P4 + name("builtins", "list") + name("builtins", "range") + b"J\xff\xff\xff\x7f\x85R\x85R.",
                          "builtins.list("),
    "bytes_without_end": (P4 + name("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R.", "builtins.bytearray("),
    "billion_laughs": (P4 + b"(" + b"K\x01" * 10 + b"t" + b"\x94(" + b"h\x00" * 100 + b"t\x94(" + b"h\x01" * 100 + b"t\x94("
                       + b"h\x02" * 100 + b"t\x94(" + b"h\x03" * 100 + b"t.", "enormous"),
    "in_bytes": (_nested(SYSTEM, 1), "posix.system("),
    "in_bytes_four_deep": (_nested(SYSTEM, 4), "posix.system("),
    "in_bytearray": (b"\x80\x05\x96" + struct.pack("<Q", len(SYSTEM)) + SYSTEM + b".", "posix.system("),
    "in_text": (P4 + text(called_text("os", "system")) + b".", "os.system("),
    "in_a_long_text": (P4 + text(b"N0" * 3000 + called_text("os", "system")) + b".", "os.system("),
    "in_python2_text": (b"T" + struct.pack("<i", len(SYSTEM)) + SYSTEM + b".", "posix.system("),
    "in_bytes_that_start_with_a_number": (_nested(b"I1\n0" + called_text("os", "system"), 1), "os.system("),
    "in_base64": (P4 + text(base64.b64encode(SYSTEM)) + b".", "posix.system("),
    "in_base64_for_urls": (P4 + text(base64.urlsafe_b64encode(SYSTEM + b"\xff\xfe\xfb")) + b".", "posix.system("),
    "in_base64_without_padding": (P4 + text(base64.b64encode(SYSTEM + b"x").rstrip(b"=")) + b".", "posix.system("),
    "in_hexadecimal": (P4 + text(binascii.hexlify(SYSTEM)) + b".", "posix.system("),
    "in_a_damaged_zip": (_nested(zipped([("a/data.pkl", SYSTEM)])[:-30] + b"R.", 1), "posix.system("),
    "in_the_middle_of_bytes": (_nested(bytes(64) + SYSTEM, 1), "posix.system("),
    "in_the_middle_of_many_bytes": (_nested(bytes(70_000) + SYSTEM, 1), "posix.system("),
    "in_zlib": (_nested(zlib.compress(SYSTEM), 1), "posix.system("),
    "in_gzip_in_base64": (P4 + text(base64.b64encode(gzip.compress(SYSTEM, mtime=0))) + b".", "posix.system("),
    "in_latin1_text": (pickle.dumps(SYSTEM, 2), "posix.system("),
    "array_that_pickle_runs": (_old_joblib(b"0" + CALL), "os.system("),
    "array_that_pickle_runs_on_the_stack": (_old_joblib(b"N00" + name("os", "system") + short("x") + b"\x85R"), "os.system("),
    "array_with_a_wide_alignment": (joblib_array(b"0" + SYSTEM[2:]).replace(short("numpy_array_alignment_bytes") + b"K\x10",
                                    short("numpy_array_alignment_bytes") + b"K\xf0"), "an alignment that joblib never writes"),
    "array_state_said_twice": (joblib_array(b"0" + SYSTEM[2:]).replace(b"}(" + short("subclass"), b"}(" + name("builtins", "str")
                               + short("dtype") + b"\x85RN" + short("subclass"), 1), ""),
}

HARMLESS: dict[str, bytes] = {
    "octal_number": b"I010\n.",
    "set_of_text": pickle.dumps({"a", "b"}, 4),
    "distribution": _distribution(
        "\ndef _parse_args(self, a, b,  loc=0, scale=1):\n    return (a, b, ), loc, scale\n\n"
        "def _parse_args_rvs(self, a, b,  loc=0, scale=1, size=None):\n"
        "    return self._argcheck_rvs(a, b,  loc, scale, size=size)\n\n"
        "def _parse_args_stats(self, a, b,  loc=0, scale=1, moments='mv'):\n"
        "    return (a, b, ), loc, scale, moments\n"
    ),
    "time_zone": P4 + name("builtins", "getattr") + name("zoneinfo", "ZoneInfo") + short("_unpickle") + b"\x86R"
    + short("Europe/Paris") + b"K\x01\x86R.",
    "restored_layer": P4 + name("torch.nn.modules.linear", "Linear") + b")\x81}" + short("in_features") + b"K\x02sb.",
    "legacy_module_id": P4 + b"(" + short("module") + name("torch.nn.modules.linear", "Linear") + short("linear.py")
    + short("class Linear") + b"tQ)\x81}b.",
    "held_metric": P4 + b"}" + short("score") + name("sklearn.metrics._classification", "f1_score") + b"s.",
    "restored_booster": P4 + name("xgboost.core", "Booster") + b")\x81}" + short("handle") + b"\x96" + struct.pack("<Q", 4)
    + b"\0\0\0\0sb.",
    "vocabulary_with_odd_words": P4 + name("types", "SimpleNamespace") + b")\x81}(" + short("append") + b"K\x01"
    + short("extend") + b"K\x02ub.",
    "long_identifier": P4 + short("distilbert-base-uncased-finetuned-sst-2-english") + b".",
    "plain_array_without_alignment": _old_joblib(b"\x3f\x80\x00\x00" * 8),
}
