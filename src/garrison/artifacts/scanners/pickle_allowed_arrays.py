"""The exact names that a pickle may import: numpy, pandas, scipy, joblib and the boosters. Data only.

One line is one module and the names in it. A pair stands here when constructing, calling or restoring it
with *any* arguments cannot run code, open a file or reach the network; the few whose arguments or state
matter are in `pickle_calls.py`, those that may only be held or restored in `pickle_uses.py`. Prefixes and
patterns are not possible on purpose: `torch.serialization` + `os.system` is one import that no prefix rule
catches. A name with a dot in it is one exact name too.
"""

from __future__ import annotations

NUMPY = """
numpy: abs absolute acos acosh add amax amin arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax
    argmin argsort asin asinh atan atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor bool bool_ byte bytes_ cbrt cdouble ceil clip
    clongdouble complex128 complex256 complex64 complexfloating concatenate conj conjugate copysign cos cosh
    csingle cumsum datetime64 deg2rad degrees diff divide divmod double dtype equal exp exp2 expm1 fabs
    float128 float16 float32 float64 float_power floating floor floor_divide fmax fmin fmod frexp gcd
    generic greater greater_equal half heaviside hypot inexact int16 int32 int64 int8 int_ intc integer intp
    invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal log log10 log1p log2 logaddexp
    logaddexp2 logical_and logical_not logical_or logical_xor long longdouble longlong matmul matrix max
    maximum mean median min minimum mod modf multiply nan_to_num nanmax nanmean nanmedian nanmin nanstd
    nansum ndarray negative nextafter not_equal number object_ ones_like percentile poly1d positive pow
    power prod quantile rad2deg radians ravel recarray reciprocal record remainder right_shift rint short
    sign signbit signedinteger sin single sinh sort spacing sqrt square std str_ subtract sum tan tanh
    timedelta64 true_divide trunc ubyte uint uint16 uint32 uint64 uint8 uintc uintp ulong ulonglong unique
    unsignedinteger ushort var vecdot vectorize void zeros_like
numpy._core: _ufunc_reconstruct
numpy._core._multiarray_umath: abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2
    arctanh cbrt ceil conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs
    float_power floor floor_divide fmax fmin fmod greater greater_equal hypot invert isfinite isinf isnan
    log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum minimum mod modf
    multiply negative not_equal positive power rad2deg radians reciprocal remainder rint sign sin sinh sqrt
    square subtract tan tanh true_divide trunc
numpy._core.defchararray: chararray
numpy._core.multiarray: _reconstruct scalar
numpy._core.numeric: _frombuffer
numpy._core.records: recarray record
numpy.char: chararray
numpy.core: _ufunc_reconstruct
numpy.core._multiarray_umath: abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2
    arctanh cbrt ceil conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs
    float_power floor floor_divide fmax fmin fmod greater greater_equal hypot invert isfinite isinf isnan
    log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum minimum mod modf
    multiply negative not_equal positive power rad2deg radians reciprocal remainder rint sign sin sinh sqrt
    square subtract tan tanh true_divide trunc
numpy.core.defchararray: chararray
numpy.core.multiarray: _reconstruct scalar
numpy.core.numeric: _frombuffer
numpy.core.records: recarray record
numpy.dtypes: BoolDType BytesDType Complex128DType Complex64DType Float16DType Float32DType Float64DType
    Int16DType Int32DType Int64DType Int8DType ObjectDType StrDType UInt16DType UInt32DType UInt64DType
    UInt8DType VoidDType
numpy.ma: MaskedArray
numpy.ma.core: MaskedArray _mareconstruct
numpy.matrixlib.defmatrix: matrix
numpy.polynomial.chebyshev: Chebyshev
numpy.polynomial.hermite: Hermite
numpy.polynomial.hermite_e: HermiteE
numpy.polynomial.laguerre: Laguerre
numpy.polynomial.legendre: Legendre
numpy.polynomial.polynomial: Polynomial
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

PANDAS = """
pandas: BooleanDtype Categorical CategoricalDtype CategoricalIndex DataFrame DateOffset DatetimeIndex
    DatetimeTZDtype Float32Dtype Float64Dtype Index Int16Dtype Int32Dtype Int64Dtype Int8Dtype Interval
    IntervalDtype IntervalIndex MultiIndex NA Period PeriodDtype PeriodIndex RangeIndex Series SparseDtype
    StringDtype Timedelta TimedeltaIndex Timestamp UInt16Dtype UInt32Dtype UInt64Dtype UInt8Dtype
pandas._libs.arrays: __pyx_unpickle_NDArrayBacked
pandas._libs.internals: BlockPlacement _unpickle_block
pandas._libs.interval: Interval __pyx_unpickle_IntervalMixin
pandas._libs.missing: NA
pandas._libs.sparse: IntIndex
pandas._libs.tslibs.nattype: __nat_unpickle _nat_unpickle
pandas._libs.tslibs.offsets: BusinessDay BusinessHour BusinessMonthBegin BusinessMonthEnd CustomBusinessDay
    DateOffset Day Hour Micro Milli Minute MonthBegin MonthEnd Nano QuarterBegin QuarterEnd Second
    SemiMonthBegin SemiMonthEnd Week YearBegin YearEnd
pandas._libs.tslibs.period: Period
pandas._libs.tslibs.timedeltas: _timedelta_unpickle
pandas._libs.tslibs.timestamps: _unpickle_timestamp
pandas.arrays: BooleanArray DatetimeArray FloatingArray IntegerArray IntervalArray PeriodArray SparseArray
    StringArray TimedeltaArray
pandas.core.arrays.boolean: BooleanArray BooleanDtype
pandas.core.arrays.categorical: Categorical
pandas.core.arrays.datetimes: DatetimeArray
pandas.core.arrays.floating: Float32Dtype Float64Dtype FloatingArray
pandas.core.arrays.integer: Int16Dtype Int32Dtype Int64Dtype Int8Dtype IntegerArray
pandas.core.arrays.interval: IntervalArray
pandas.core.arrays.period: PeriodArray
pandas.core.arrays.sparse.array: SparseArray
pandas.core.arrays.sparse.dtype: SparseDtype
pandas.core.arrays.string_: StringArray StringDtype
pandas.core.arrays.timedeltas: TimedeltaArray
pandas.core.dtypes.dtypes: CategoricalDtype DatetimeTZDtype IntervalDtype PeriodDtype SparseDtype
pandas.core.frame: DataFrame
pandas.core.indexes.base: Index _new_Index
pandas.core.indexes.category: CategoricalIndex
pandas.core.indexes.datetimes: DatetimeIndex _new_DatetimeIndex
pandas.core.indexes.frozen: FrozenList
pandas.core.indexes.interval: IntervalIndex _new_IntervalIndex
pandas.core.indexes.multi: MultiIndex
pandas.core.indexes.numeric: Float64Index Int64Index UInt64Index
pandas.core.indexes.period: PeriodIndex _new_PeriodIndex
pandas.core.indexes.range: RangeIndex
pandas.core.indexes.timedeltas: TimedeltaIndex _new_TimedeltaIndex
pandas.core.internals.blocks: new_block
pandas.core.internals.managers: BlockManager SingleBlockManager
pandas.core.series: Series
"""

SCIPY = """
scipy._lib.array_api_compat.numpy._aliases: asarray
scipy.interpolate._bsplines: BSpline
scipy.interpolate._cubic: Akima1DInterpolator CubicSpline PchipInterpolator
scipy.interpolate._fitpack2: InterpolatedUnivariateSpline LSQUnivariateSpline UnivariateSpline
scipy.interpolate._interpolate: BPoly PPoly interp1d interp1d._call_linear interp1d._call_linear_np
    interp1d._call_nearest interp1d._call_previousnext interp1d._call_spline
scipy.interpolate._rgi: RegularGridInterpolator
scipy.interpolate.interpolate: interp1d
scipy.optimize._optimize: OptimizeResult
scipy.sparse._arrays: bsr_array coo_array csc_array csr_array dia_array dok_array lil_array
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
scipy.stats._continuous_distns: alpha_gen anglit_gen arcsine_gen argus_gen beta_gen betaprime_gen
    bradford_gen burr12_gen burr_gen cauchy_gen chi2_gen chi_gen cosine_gen crystalball_gen dgamma_gen
    dpareto_lognorm_gen dweibull_gen erlang_gen expon_gen exponnorm_gen exponpow_gen exponweib_gen f_gen
    fatiguelife_gen fisk_gen foldcauchy_gen foldnorm_gen gamma_gen gausshyper_gen genexpon_gen
    genextreme_gen gengamma_gen genhalflogistic_gen genhyperbolic_gen geninvgauss_gen genlogistic_gen
    gennorm_gen genpareto_gen gibrat_gen gompertz_gen gumbel_l_gen gumbel_r_gen halfcauchy_gen
    halfgennorm_gen halflogistic_gen halfnorm_gen hypsecant_gen invgamma_gen invgauss_gen invweibull_gen
    irwinhall_gen jf_skew_t_gen johnsonsb_gen johnsonsu_gen kappa3_gen kappa4_gen ksone_gen kstwo_gen
    kstwobign_gen landau_gen laplace_asymmetric_gen laplace_gen levy_gen levy_l_gen loggamma_gen
    logistic_gen loglaplace_gen lognorm_gen lomax_gen maxwell_gen mielke_gen moyal_gen nakagami_gen ncf_gen
    nct_gen ncx2_gen norm_gen norminvgauss_gen pareto_gen pearson3_gen powerlaw_gen powerlognorm_gen
    powernorm_gen rayleigh_gen rdist_gen recipinvgauss_gen reciprocal_gen rel_breitwigner_gen rice_gen
    semicircular_gen skewcauchy_gen skewnorm_gen studentized_range_gen t_gen trapezoid_gen triang_gen
    truncexpon_gen truncnorm_gen truncpareto_gen truncweibull_min_gen tukeylambda_gen uniform_gen
    vonmises_gen wald_gen weibull_max_gen weibull_min_gen wrapcauchy_gen
scipy.stats._discrete_distns: bernoulli_gen betabinom_gen betanbinom_gen binom_gen boltzmann_gen
    dlaplace_gen geom_gen hypergeom_gen logser_gen nbinom_gen nchypergeom_fisher_gen
    nchypergeom_wallenius_gen nhypergeom_gen planck_gen poisson_binom_gen poisson_gen randint_gen
    skellam_gen yulesimon_gen zipf_gen zipfian_gen
scipy.stats._distn_infrastructure: rv_continuous_frozen rv_discrete_frozen rv_frozen
scipy.stats._kde: gaussian_kde
"""

JOBLIB = """
joblib.numpy_pickle: NumpyArrayWrapper
"""

BOOSTERS = """
lightgbm.basic: Booster
lightgbm.sklearn: LGBMClassifier LGBMRanker LGBMRegressor
xgboost.core: Booster
xgboost.sklearn: XGBClassifier XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor
"""
