"""The exact names that a pickle may import: the standard library, numpy, pandas, scipy, joblib, torch. Data only.

One line is one module and the names in it. A pair stands here when constructing, calling or restoring it
with *any* arguments cannot run code, open a file or reach the network. Prefixes and patterns are not
possible on purpose: `torch.serialization` + `os.system` is one import that no prefix rule catches.
"""

from __future__ import annotations

from garrison.artifacts.scanners.pickle_allowed_sklearn import SKLEARN

PYTHON = """
_codecs: encode
argparse: Namespace
array: _array_reconstructor array
builtins: Ellipsis NotImplemented bool bytearray bytes complex dict float frozenset int list object range
    set slice str tuple type
collections: ChainMap Counter OrderedDict defaultdict deque
copyreg: _reconstructor
datetime: date datetime time timedelta timezone
decimal: Decimal
fractions: Fraction
functools: partial
pathlib: Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
pytz: _UTC _p
types: SimpleNamespace
uuid: SafeUUID UUID
"""

# Checked further by pickle_calls.py: the arguments of partial, _load_from_bytes, _codecs.encode, type ...

NUMPY = """
numpy: abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
    atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor bool bool_ byte bytes_ cbrt cdouble ceil clongdouble complex128
    complex256 complex64 complexfloating conj conjugate copysign cos cosh csingle datetime64 deg2rad degrees
    divide divmod double dtype equal exp exp2 expm1 fabs float128 float16 float32 float64 float_power
    floating floor floor_divide fmax fmin fmod frexp gcd generic greater greater_equal half heaviside hypot
    inexact int16 int32 int64 int8 int_ intc integer intp invert isfinite isinf isnan isnat lcm ldexp
    left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or
    logical_xor long longdouble longlong matmul matrix maximum mean median minimum mod modf multiply ndarray
    negative nextafter not_equal number object_ poly1d positive pow power rad2deg radians reciprocal record
    remainder right_shift rint short sign signbit signedinteger sin single sinh spacing sqrt square std str_
    subtract sum tan tanh timedelta64 true_divide trunc ubyte uint uint16 uint32 uint64 uint8 uintc uintp
    ulong ulonglong unsignedinteger ushort var vecdot void
numpy._core: _ufunc_reconstruct
numpy._core.multiarray: _reconstruct scalar
numpy._core.numeric: _frombuffer
numpy._core.records: recarray record
numpy.core: _ufunc_reconstruct
numpy.core.multiarray: _reconstruct scalar
numpy.core.numeric: _frombuffer
numpy.core.records: recarray record
numpy.dtypes: BoolDType BytesDType Complex128DType Complex64DType Float16DType Float32DType Float64DType
    Int16DType Int32DType Int64DType Int8DType ObjectDType StrDType UInt16DType UInt32DType UInt64DType
    UInt8DType VoidDType
numpy.ma: MaskedArray
numpy.ma.core: MaskedArray _mareconstruct
numpy.matrixlib.defmatrix: matrix
numpy.random: Generator RandomState
numpy.random._mt19937: MT19937 __pyx_unpickle_MT19937
numpy.random._pcg64: PCG64 PCG64DXSM
numpy.random._philox: Philox
numpy.random._pickle: __bit_generator_ctor __generator_ctor __randomstate_ctor
numpy.random._sfc64: SFC64
numpy.random.bit_generator: SeedSequence __pyx_unpickle_SeedSequence
numpy.random.mtrand: RandomState
numpy.rec: recarray
"""

PANDAS_SCIPY = """
pandas: BooleanDtype Categorical CategoricalDtype CategoricalIndex DataFrame DatetimeIndex DatetimeTZDtype
    Float32Dtype Float64Dtype Index Int16Dtype Int32Dtype Int64Dtype Int8Dtype Interval IntervalDtype
    IntervalIndex MultiIndex NA Period PeriodDtype RangeIndex Series SparseDtype StringDtype Timedelta
    TimedeltaIndex Timestamp UInt8Dtype
pandas._libs.arrays: __pyx_unpickle_NDArrayBacked
pandas._libs.internals: BlockPlacement _unpickle_block
pandas._libs.interval: __pyx_unpickle_IntervalMixin
pandas._libs.sparse: IntIndex
pandas._libs.tslibs.nattype: _nat_unpickle
pandas._libs.tslibs.offsets: BusinessDay BusinessHour Day Hour Micro Milli Minute MonthBegin MonthEnd Nano
    QuarterBegin QuarterEnd Second Week YearBegin YearEnd
pandas._libs.tslibs.timedeltas: _timedelta_unpickle
pandas._libs.tslibs.timestamps: _unpickle_timestamp
pandas.arrays: BooleanArray DatetimeArray FloatingArray IntegerArray IntervalArray PeriodArray SparseArray
    StringArray TimedeltaArray
pandas.core.arrays.boolean: BooleanArray BooleanDtype
pandas.core.arrays.categorical: Categorical
pandas.core.arrays.datetimes: DatetimeArray
pandas.core.arrays.floating: Float32Dtype Float64Dtype FloatingArray
pandas.core.arrays.integer: Int8Dtype Int16Dtype Int32Dtype Int64Dtype IntegerArray
pandas.core.arrays.string_: StringArray StringDtype
pandas.core.dtypes.dtypes: CategoricalDtype DatetimeTZDtype IntervalDtype PeriodDtype SparseDtype
pandas.core.frame: DataFrame
pandas.core.indexes.base: Index _new_Index
pandas.core.indexes.category: CategoricalIndex
pandas.core.indexes.datetimes: DatetimeIndex _new_DatetimeIndex
pandas.core.indexes.frozen: FrozenList
pandas.core.indexes.interval: _new_IntervalIndex
pandas.core.indexes.multi: MultiIndex
pandas.core.indexes.numeric: Float64Index Int64Index UInt64Index
pandas.core.indexes.range: RangeIndex
pandas.core.indexes.timedeltas: _new_TimedeltaIndex
pandas.core.internals.blocks: new_block
pandas.core.internals.managers: BlockManager SingleBlockManager
pandas.core.series: Series
joblib.numpy_pickle: NumpyArrayWrapper
scipy.interpolate._bsplines: BSpline
scipy.interpolate._interpolate: interp1d
scipy.interpolate.interpolate: interp1d
scipy._lib.array_api_compat.numpy._aliases: asarray
scipy.sparse._bsr: bsr_array bsr_matrix
scipy.sparse._coo: coo_array coo_matrix
scipy.sparse._csc: csc_array csc_matrix
scipy.sparse._csr: csr_array csr_matrix
scipy.sparse._dia: dia_array dia_matrix
scipy.sparse._dok: dok_array dok_matrix
scipy.sparse._lil: lil_array lil_matrix
scipy.sparse.bsr: bsr_matrix
scipy.sparse.coo: coo_matrix
scipy.sparse.csc: csc_matrix
scipy.sparse.csr: csr_matrix
scipy.sparse.dia: dia_matrix
scipy.sparse.dok: dok_matrix
scipy.sparse.lil: lil_matrix
"""

TORCH = """
accelerate.state: PartialState
accelerate.utils.dataclasses: DistributedType
torch: BFloat16Storage BFloat16Tensor BoolStorage BoolTensor ByteStorage ByteTensor CharStorage
    ComplexDoubleStorage ComplexFloatStorage DoubleStorage DoubleTensor FloatStorage FloatTensor HalfStorage
    HalfTensor IntStorage IntTensor LongStorage LongTensor QInt32Storage QInt8Storage QUInt8Storage
    ShortStorage Size Tensor UntypedStorage bfloat16 bool chalf complex128 complex32 complex64 cos device
    dtype exp float16 float32 float64 float8_e4m3fn float8_e5m2 half int16 int32 int64 int8 layout
    per_channel_affine per_channel_symmetric per_tensor_affine per_tensor_symmetric qint32 qint8 quint8 relu
    short sigmoid sin softmax strided tanh uint16 uint32 uint64 uint8
torch._C._nn: elu gelu hardswish hardtanh leaky_relu mish relu6 silu softplus
torch._tensor: Tensor _rebuild_from_type_v2
torch._utils: _rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy
    _rebuild_meta_tensor_no_storage _rebuild_parameter _rebuild_parameter_with_state _rebuild_qtensor
    _rebuild_sparse_tensor _rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3
torch.jit._pickle: build_boollist build_doublelist build_intlist build_tensorlist restore_type_tag
torch.nn: Linear Module Parameter Sequential
torch.nn.functional: celu elu gelu glu hardsigmoid hardswish hardtanh leaky_relu log_softmax logsigmoid mish
    relu relu6 selu sigmoid silu softmax softplus softsign tanh
torch.nn.modules.activation: CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU
    LogSigmoid LogSoftmax Mish MultiheadAttention PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d
    Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold
torch.nn.modules.batchnorm: BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm
torch.nn.modules.channelshuffle: ChannelShuffle
torch.nn.modules.container: ModuleDict ModuleList ParameterDict ParameterList Sequential
torch.nn.modules.conv: Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
torch.nn.modules.distance: CosineSimilarity PairwiseDistance
torch.nn.modules.dropout: AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout
torch.nn.modules.flatten: Flatten Unflatten
torch.nn.modules.fold: Fold Unfold
torch.nn.modules.instancenorm: InstanceNorm1d InstanceNorm2d InstanceNorm3d
torch.nn.modules.linear: Bilinear Identity LazyLinear Linear NonDynamicallyQuantizableLinear
torch.nn.modules.loss: BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss
    GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss
    MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss
    SmoothL1Loss SoftMarginLoss TripletMarginLoss
torch.nn.modules.module: Module
torch.nn.modules.normalization: CrossMapLRN2d GroupNorm LayerNorm LocalResponseNorm RMSNorm
torch.nn.modules.padding: CircularPad1d CircularPad2d ConstantPad1d ConstantPad2d ConstantPad3d
    ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d
    ZeroPad1d ZeroPad2d ZeroPad3d
torch.nn.modules.pixelshuffle: PixelShuffle PixelUnshuffle
torch.nn.modules.pooling: AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d
    AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d FractionalMaxPool2d LPPool1d LPPool2d
    MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d
torch.nn.modules.rnn: GRU GRUCell LSTM LSTMCell RNN RNNCell
torch.nn.modules.sparse: Embedding EmbeddingBag
torch.nn.modules.transformer: Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder
    TransformerEncoderLayer
torch.nn.modules.upsampling: Upsample UpsamplingBilinear2d UpsamplingNearest2d
torch.nn.parameter: Buffer Parameter UninitializedParameter
torch.serialization: _get_layout
torch.storage: TypedStorage UntypedStorage _load_from_bytes
transformers.trainer_pt_utils: AcceleratorConfig
transformers.trainer_utils: HubStrategy IntervalStrategy SaveStrategy SchedulerType
transformers.training_args: OptimizerNames TrainingArguments
transformers.training_args_seq2seq: Seq2SeqTrainingArguments
"""

UFUNCS = frozenset(
    """
    abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
    atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide
    divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater
    greater_equal heaviside hypot invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal
    log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul
    maximum minimum mod modf multiply negative nextafter not_equal positive pow power rad2deg radians
    reciprocal remainder right_shift rint sign signbit sin sinh spacing sqrt square subtract tan tanh
    true_divide trunc vecdot
    """.split()  # noqa: SIM905 - a list of this length is read as words
)


def _pairs(*tables: str) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    module = ""
    for table in tables:
        for word in table.split():
            if word.endswith(":"):
                module = word[:-1]
            else:
                found.add((module, word))
    return frozenset(found)


ALLOWED = _pairs(PYTHON, NUMPY, PANDAS_SCIPY, TORCH, SKLEARN)

# Names of Python 2 that protocols 0 to 2 still write (pickle's `_compat_pickle`).
PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
PYTHON2_NAMES = {
    ("builtins", "xrange"): ("builtins", "range"),
    ("builtins", "long"): ("builtins", "int"),
    ("builtins", "unicode"): ("builtins", "str"),
}
