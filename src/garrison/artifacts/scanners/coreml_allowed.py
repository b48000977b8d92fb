"""The operations of Core ML programs (iOS 13 to 18) and the layers of its neural networks, as data."""

from __future__ import annotations

OPERATIONS = frozenset(
    """
    _const_symbolic abs acos add affine argsort asin atan atanh avg_pool band_part batch_norm batch_to_space cast
    ceil clamped_relu classify clip concat cond const constexpr_affine_dequantize constexpr_blockwise_shift_scale
    constexpr_cast constexpr_lut_to_dense constexpr_lut_to_sparse constexpr_sparse_blockwise_shift_scale
    constexpr_sparse_to_dense conv conv_quantized conv_transpose cos cosh crop crop_resize cumsum depth_to_space
    dequantize einsum elu equal erf exp exp2 expand_dims fill fill_like flatten2d floor floor_div gather
    gather_along_axis gather_nd gelu greater greater_equal gru identity instance_norm inverse l2_norm l2_pool
    layer_norm leaky_relu less less_equal linear linear_activation list_gather list_length list_read list_scatter
    list_write local_response_norm log logical_and logical_not logical_or logical_xor lstm make_list matmul
    max_pool maximum minimum mod mul non_maximum_suppression non_zero not_equal one_hot pad pixel_shuffle
    pixel_unshuffle pow prelu quantize random_bernoulli random_categorical random_normal random_uniform range_1d
    read_state real_div reduce_argmax reduce_argmin reduce_l1_norm reduce_l2_norm reduce_log_sum
    reduce_log_sum_exp reduce_max reduce_mean reduce_min reduce_prod reduce_sum reduce_sum_square relu relu6
    resample reshape reshape_like resize resize_bilinear resize_nearest_neighbor reverse reverse_sequence rnn
    round rsqrt scaled_dot_product_attention scaled_tanh scatter scatter_along_axis scatter_nd select shape
    sigmoid sigmoid_hard sign silu sin sinh slice_by_index slice_by_size slice_update sliding_windows softmax
    softplus softplus_parametric softsign space_to_batch space_to_depth split sqrt square squeeze stack sub tan
    tanh threshold thresholded_relu tile topk transpose upsample_bilinear upsample_nearest_neighbor while_loop
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
# Field numbers of NeuralNetworkLayer (NeuralNetwork.proto) without 500, the custom layer.
LAYERS = frozenset(
    int(number)
    for number in """
    1 2 3 4 5 10 100 120 130 140 150 160 165 170 175 180 190 200 210 211 212 220 230 231 240 245 250 260 261 270
    280 290 300 301 310 320 330 340 345 350 400 410 420 430 600 605 615 620 625 635 640 660 665 670 680 685 700
    710 715 720 730 735 740 750 755 760 770 775 780 790 795 815 820 825 827 830 832 840 845 850 855 865 870 875
    880 885 890 895 900 905 920 925 930 935 940 945 950 952 954 960 965 975 980 985 995 1000 1005 1015 1020 1025
    1040 1045 1065 1070 1080 1085 1090 1100 1105 1110 1120 1125 1130 1135 1140 1145 1150 1155 1170 1175 1180 1190
    1195 1200 1210 1215 1220 1230 1250 1255 1260 1265 1270 1275 1280 1285 1290 1295 1313 1315 1320 1325 1330 1350
    1400 1450 1455 1460 1461 1465 1466 1470 1471
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
