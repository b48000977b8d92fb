"""The standard operations of OpenVINO (opset1 to opset16), as data, and the tokenizer operations beside them."""

from __future__ import annotations

OPERATIONS = frozenset(
    """
    Abs Acos Acosh AdaptiveAvgPool AdaptiveMaxPool Add Asin Asinh Assign Atan Atanh AvgPool BatchNormInference
    BatchToSpace BinaryConvolution BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor
    Broadcast Bucketize CTCGreedyDecoder CTCGreedyDecoderSeqLen CTCLoss Ceil Ceiling Clamp Col2Im Concat Const
    Constant Convert ConvertLike ConvertPromoteTypes Convolution ConvolutionBackpropData Cos Cosh CumSum DFT
    DeformableConvolution DeformablePSROIPooling DepthToSpace DetectionOutput Divide Einsum Elu
    EmbeddingBagOffsets EmbeddingBagOffsetsSum EmbeddingBagPacked EmbeddingBagPackedSum EmbeddingSegmentsSum Equal
    Erf Exp ExperimentalDetectronDetectionOutput ExperimentalDetectronGenerateProposalsSingleImage
    ExperimentalDetectronPriorGridGenerator ExperimentalDetectronROIFeatureExtractor ExperimentalDetectronTopKROIs
    ExtractImagePatches Eye FakeConvert FakeQuantize Floor FloorMod GRN GRUCell GRUSequence Gather GatherElements
    GatherND GatherTree Gelu GenerateProposals Greater GreaterEqual GridSample GroupConvolution
    GroupConvolutionBackpropData GroupNormalization HSigmoid HSwish HardSigmoid I420toBGR I420toRGB IDFT IRDFT
    ISTFT Identity If Interpolate Inverse IsFinite IsInf IsNaN LRN LSTMCell LSTMSequence Less LessEqual Log
    LogSoftmax LogicalAnd LogicalNot LogicalOr LogicalXor Loop MVN MatMul MatrixNms MaxPool Maximum Minimum Mish
    Mod MulticlassNms Multinomial Multiply NMSRotated NV12toBGR NV12toRGB Negative NonMaxSuppression NonZero
    NormalizeL2 NotEqual OneHot PRelu PSROIPooling Pad PagedAttention Parameter Power PriorBox PriorBoxClustered
    Proposal RDFT RMS RNNCell RNNSequence ROIAlign ROIAlignRotated ROIPooling RandomUniform Range ReLU ReadValue
    ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    RegionYolo Relu ReorgYolo Reshape Result ReverseSequence Roll Round STFT ScaledDotProductAttention
    ScatterElementsUpdate ScatterNDUpdate ScatterUpdate SearchSorted SegmentMax Select Selu ShapeOf
    ShuffleChannels Sigmoid Sign Sin Sinh Slice SliceScatter SoftPlus SoftSign Softmax SpaceToBatch SpaceToDepth
    SparseFillEmptyRows Split Sqrt SquaredDifference Squeeze StridedSlice StringTensorPack StringTensorUnpack
    Subtract Swish Tan Tanh TensorIterator Tile TopK Transpose Unique Unsqueeze VariadicSplit
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
# Written with version="extension" by openvino_tokenizers, whose library a runtime brings itself.
EXTENSIONS = frozenset(
    """
    BPETokenizer ByteFallback BytesToChars CaseFold CharsToBytes CharsMapNormalization CombineSegments EqualStr
    FuzeRagged NormalizeUnicode RaggedTensorPack RaggedToDense RaggedToRagged RaggedToSparse RegexNormalization
    RegexSplit SentencepieceDetokenizer SentencepieceStreamDetokenizer SentencepieceTokenizer SpecialTokensSplit
    StringTensorPack StringTensorUnpack StringToHashBucket TrieTokenizer Truncate UTF8Validate UnigramTokenizer
    VocabDecoder VocabEncoder WordpieceTokenizer WordpieceTokenizerWithSubwordTracking
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
BITS = {
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("i8", "u8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"), 8),
    **dict.fromkeys(("i4", "u4", "nf4", "f4e2m1"), 4),
}
