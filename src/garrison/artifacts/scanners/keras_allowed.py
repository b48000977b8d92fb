"""Keras names, as data: modules whose classes only build models, and the classes and functions known by bare name.

From the public names of Keras 2.2 to 3.12 (layers, losses, metrics, optimizers, initializers, ...).
"""

from __future__ import annotations

import re

# A class is imported from its module: one of these, and no step may be another module's name.
_AREAS = (
    "layers|activations|initializers|regularizers|constraints|losses|metrics|optimizers|models|dtype_policies|ops"
    "|quantizers|engine|mixed_precision|backend\\.common\\.(?:keras_tensor|variables)|random\\.seed_generator|utils"
    "|random|trainers|premade|premade_models|feature_column|distribution"
)
MODULES = re.compile(
    r"(?:(?:tensorflow\.(?:python\.)?|tf_)?keras(?:\.api)?(?:\._v2\.keras|\._v1\.keras)?(?:\.src)?(?:\.(?:"
    + _AREAS
    + r")(?:\.[a-z][a-z0-9_]*)*)?|builtins)\Z"
)
# `utils` holds functions that fetch and unpack files; only these of it take part in models.
UTILS = re.compile(r"\.utils(?:\.|\Z)")
UTILS_ALLOWED = frozenset({"FeatureSpace", "Feature", "Cross", "normalize", "to_categorical"})
LIBRARIES = re.compile(
    r"keras_(?:hub|nlp|cv)(?:\.(?:src|api))?(?:\.(?:models|layers|samplers|tokenizers|metrics)(?:\.\w+)*)?\Z"
)
PACKAGES = frozenset({"keras_hub", "keras_nlp", "keras_cv", "keras"})

# Their `from_config` runs code that the file carries, or loads another model, whatever their module.
HARMFUL = {
    "Lambda": "runs a function that the file carries or names",
    "__lambda__": "runs byte code that the file carries",
    "TFSMLayer": "loads and runs a SavedModel from a path in the configuration",
    "TorchModuleWrapper": "unpickles a torch module that the file carries",
    "JaxLayer": "runs a function that the file carries or names",
    "FlaxLayer": "runs a function that the file carries or names",
    "__import__": "imports a module",
}
# fmt: off - words, read as text
SPECIAL = frozenset(
    """
    __tensor__ __numpy__ __bytes__ __slice__ __ellipsis__ __tuple__ __keras_tensor__ __typespec__ __tf_tensor__
    TensorShape Ellipsis TypeSpec DType CompositeTensor tf.TensorSpec tf.RaggedTensorSpec tf.SparseTensorSpec
    tuple str int float bool list dict RaggedTensorSpec TensorSpec SparseTensorSpec set
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
CLASSES = frozenset(
    """
    Sequential Functional Model Layer Wrapper InputLayer InputSpec Input Activation ActivityRegularization
    AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D
    AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast
    Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
    BatchNormalizationV1 BatchNormalizationV2 SyncBatchNormalization LayerNormalizationV2 Bidirectional
    CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
    ConvLSTM1D ConvLSTM2D ConvLSTM3D ConvLSTM2DCell Convolution1D Convolution1DTranspose Convolution2D
    Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D CuDNNGRU
    CuDNNLSTM CutMix Dense DenseFeatures DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
    EinsumDense Embedding Equalization Flatten GRU GRUV1 GRUV2 GRUCell GRUCellV2 GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
    GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D
    GlobalMaxPooling3D GroupNormalization GroupedQueryAttention GroupQueryAttention HashedCrossing Hashing
    Highway Identity IndexLookup IntegerLookup LSTM LSTMV1 LSTMV2 LSTMCell LSTMCellV2 LayerNormalization
    LeakyReLU LocallyConnected1D LocallyConnected2D MaxNumBoundingBoxes Masking MaxPool1D MaxPool2D MaxPool3D
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum MaxoutDense MelSpectrogram Merge Minimum MixUp
    MultiHeadAttention Multiply Normalization PReLU PeepholeLSTMCell Permute Pipeline RMSNormalization RNN
    RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomErasing RandomElasticTransform RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D SimpleRNN SimpleRNNCell SlicingOpLambda Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
    TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D ContrastLimitedAdaptiveHistogramEqualization LinearModel
    WideDeepModel ClassMethod InstanceMethod InstanceProperty TFOpLambda TensorFlowOpLayer AddLoss AddMetric
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer Initializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT STFTInitializer
    TruncatedNormal VarianceScaling Zeros L1 L1L2 L2 OrthogonalRegularizer Regularizer Constraint MaxNorm
    MinMaxNorm NonNeg RadialConstraint UnitNorm BinaryCrossentropy BinaryFocalCrossentropy CTC
    CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge
    Circle CosineSimilarity Dice Hinge Huber KLDivergence LogCosh Loss MeanAbsoluteError LossFunctionWrapper
    MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
    SparseCategoricalCrossentropy SquaredHinge Tversky AUC Accuracy BinaryAccuracy BinaryIoU CategoricalAccuracy
    ConcordanceCorrelation F1Score FBetaScore FalseNegatives FalsePositives IoU LogCoshError Mean MeanIoU
    MeanMetricWrapper Metric OneHotIoU OneHotMeanIoU PearsonCorrelation Precision PrecisionAtRecall R2Score
    Recall RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy
    SparseTopKCategoricalAccuracy SpecificityAtSensitivity Sum TopKCategoricalAccuracy TrueNegatives
    TruePositives CosineProximity Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion
    LossScaleOptimizer Muon MultiOptimizer Nadam Optimizer RMSprop RMSProp SGD ScheduleFreeAdamW
    CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule
    PiecewiseConstantDecay PolynomialDecay WarmUp DTypePolicy DTypePolicyMap FloatDTypePolicy Policy PolicyV1
    QuantizedDTypePolicy QuantizedFloat8DTypePolicy GPTQDTypePolicy AWQDTypePolicy Int4DTypePolicy
    AbsMaxQuantizer Quantizer QuantizationConfig Int8QuantizationConfig Int4QuantizationConfig GPTQConfig
    AWQConfig Float8QuantizationConfig SeedGenerator FeatureSpace Feature Cross KerasTensor Variable RandomSeed
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
# Operations on tensors that stand in a graph as layers; those that are given functions (`Map`, `Scan`, ...) do not.
OPERATIONS = frozenset(
    """
    Abs Absolute AdaptiveAveragePool AdaptiveMaxPool AffineTransform All AllClose Amax Amin Angle Any Append
    Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array
    ArraySplit AveragePool BatchNorm Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr
    BitwiseRightShift BitwiseXor BroadcastTo CDist CTCDecode CTCLoss Cbrt Ceil Celu Cholesky CholeskyInverse
    Clip Conj Conjugate Conv ConvTranspose Copy Corrcoef Correlate Cos Cosh CountNonzero CropImages Cumprod
    Cumsum Deg2rad DepthToSpace DepthwiseConv Det Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan
    DotProductAttention Dsplit Dstack Eig Eigh Einsum ElasticTransform Elu EmptyLike Equal Erf Erfc Erfinv Exp
    Exp2 ExpandDims Expm1 ExtractPatches ExtractSequences FFT FFT2 Fabs Flip Fliplr Flipud Floor FloorDivide
    Fmax Fmin Fmod Fold Full FullLike GaussianBlur Gcd Gelu Geomspace GetItem Glu Greater GreaterEqual HSVToRGB
    HardShrink HardSigmoid HardSilu HardTanh Heaviside Histogram Hsplit Hstack Hypot I0 IFFT2 IRFFT ISTFT Imag
    InTopK Inner Inv IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal JVP Kron LayerNorm Lcm Ldexp
    LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp Logaddexp2
    Logdet LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp Lstsq LuFactor MapCoordinates Matmul
    MatrixRank Max MaxPool Median Meshgrid Min Mod Moments Moveaxis MultiHot NanToNum Nanargmax Nanargmin
    Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd Nansum Nanvar
    Ndim Negative Nextafter Nonzero Norm Normalize NotEqual OneHot OnesLike Outer PSNR Pad PadImages Percentile
    PerspectiveTransform Pinv Polar Power Prod Ptp Qr Quantile RFFT RGBToGrayscale RGBToHSV RMSNorm Rad2deg
    Ravel Real Reciprocal Relu Relu6 Repeat Resize RightShift Roll Rot90 Round Rsqrt SSIM SVD ScaleAndTranslate
    SearchSorted SegmentMax SegmentMin SegmentProd SegmentReduction SegmentSum Select Selu SeparableConv Sigmoid
    Sign Signbit Silu Sin Sinc Sinh Size Slogdet SobelEdges SoftShrink Softplus Softsign Solve SolveTriangular
    Sort SpaceToDepth SparsePlus SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std Swapaxes
    Take TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold Tile TopK Trace Transpose Trapezoid Tril Triu
    TrueDivide Trunc Unfold Unique UnravelIndex Vander Var Vdot View ViewAsComplex ViewAsReal Vsplit Vstack
    Where ZerosLike
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
FUNCTIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold sigmoid_v2 softmax_v2
    constant glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal lecun_uniform ones one zero
    normal uniform orthogonal random_normal random_uniform stft truncated_normal variance_scaling zeros l1 l1_l2
    l2 l1l2 orthogonal_regularizer max_norm maxnorm min_max_norm non_neg nonneg unit_norm unitnorm accuracy acc
    auc mse mae mape msle ce crossentropy loss binary_accuracy binary_crossentropy binary_focal_crossentropy
    categorical_accuracy categorical_crossentropy categorical_focal_crossentropy
    categorical_generalized_cross_entropy categorical_hinge circle cosine cosine_proximity cosine_similarity ctc
    dice hinge huber huber_loss kl_divergence kld kullback_leibler_divergence log_cosh logcosh
    mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson
    sparse_categorical_accuracy sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge
    top_k_categorical_accuracy tversky precision recall f1_score concordance_correlation pearson_correlation
    adadelta adafactor adagrad adam adamw adamax ftrl lamb lion nadam rmsprop sgd muon auto None
    gelu_approximate gelu_new quick_gelu
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
# fmt: on
# Symbols below `tf.` that a TFOpLambda layer may name; `io`, `py_function` and their like are not among them.
TF_SYMBOLS = re.compile(
    r"(?:(?:math|nn|linalg|signal|strings|__operators__|compat\.v1\.(?:math|nn)|keras\.(?:backend|activations|losses"
    r"|metrics))\.[A-Za-z_]\w*|image\.(?:resize\w*|crop\w*|central_crop|flip\w*|rot90|adjust\w*|per_image\w*"
    r"|rgb_to\w+|grayscale_to_rgb|pad_to\w*|extract_patches|convert_image_dtype|non_max_suppression\w*"
    r"|combined_non_max_suppression)|(?:compat\.v1\.)?(?:abs|acos|add|add_n|argmax|argmin|argsort|broadcast_to"
    r"|boolean_mask|cast|clip_by_value|concat|constant|convert_to_tensor|cos|cumsum|divide|einsum|equal|exp"
    r"|expand_dims|fill|floor|gather|gather_nd|greater|greater_equal|identity|less|less_equal|logical_and"
    r"|logical_not|logical_or|matmul|maximum|minimum|multiply|negative|not_equal|norm|one_hot|ones|ones_like|pad"
    r"|pow|range|rank|reduce_\w+|repeat|reshape|reverse|roll|round|scatter_nd|sequence_mask|shape|sigmoid|sign|sin"
    r"|size|slice|sort|space_to_batch|split|sqrt|square|squeeze|stack|stop_gradient|strided_slice|subtract"
    r"|tan|tanh|tensor_scatter_nd_\w+|tensordot|tile|transpose|truediv|unstack|where|zeros|zeros_like))\Z"
)
