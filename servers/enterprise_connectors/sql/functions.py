"""The functions a statement may use: what computes on values, and nothing that reaches out of the query.

Left out on purpose: everything that reads or writes files, sleeps, locks, changes settings, opens
connections, runs text as SQL, or makes a large value out of a small one (`repeat`, `lpad`, `zeroblob`).
"""

from __future__ import annotations

__all__ = ["NAMES", "PARSED", "named"]


def named(*lists: str) -> frozenset[str]:
    """The words of some texts: long lists are read more easily so."""
    return frozenset(word for words in lists for word in words.split())


_BOTH = """
abs acos asin atan atan2 avg ceil ceiling char_length coalesce concat concat_ws cos count cume_dist date
degrees dense_rank exp first_value floor greatest ifnull lag last_value lead least length ln log log10 log2
lower ltrim max min mod nth_value ntile nullif percent_rank pi pow power radians random rank replace round
row_number rtrim sign sin sqrt substr substring sum tan time timestamp trim trunc upper
"""

_SQLITE = """
-> ->> bm25 changes char datetime format glob group_concat hex highlight iif instr json json_array
json_array_length json_each json_extract json_group_array json_group_object json_insert json_object
json_patch json_quote json_remove json_replace json_set json_tree json_type json_valid julianday like
likelihood likely match median percentile printf quote regexp snippet soundex strftime string_agg timediff
total typeof unicode unixepoch unlikely
"""

_POSTGRES = """
age array_agg array_append array_cat array_length array_lower array_position array_remove array_to_string
array_upper ascii bit_and bit_length bit_or bool_and bool_or btrim cardinality cbrt chr clock_timestamp corr
cosh cot covar_pop covar_samp date_bin date_part date_trunc daterange div encode every extract factorial gcd
generate_series grouping initcap int4range isempty isfinite json_agg json_array_elements
json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
json_extract_path json_extract_path_text json_object_agg json_object_keys json_typeof jsonb_agg
jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_object_agg jsonb_object_keys
jsonb_path_exists jsonb_path_query jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof
justify_days justify_hours justify_interval lcm left localtime localtimestamp lower_inc make_date
make_interval make_timestamp md5 min_scale mode now num_nonnulls num_nulls numrange octet_length overlay
percentile_cont percentile_disc phraseto_tsquery plainto_tsquery position regexp_count regexp_like
regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr
regr_intercept regr_r2 regr_slope reverse right row_to_json scale sinh split_part starts_with
statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array strpos tanh to_char to_date
to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector transaction_timestamp translate ts_headline
ts_rank ts_rank_cd tsrange tstzrange unnest upper_inc var_pop var_samp variance websearch_to_tsquery
width_bucket
"""

NAMES = {"sqlite": named(_BOTH, _SQLITE), "postgres": named(_BOTH, _POSTGRES)}
"""As they are written in a statement, by dialect."""

PARSED = named(
    """
Abs Acos All And Any Array ArrayAgg ArrayAppend ArrayConcat ArrayContainsAll ArrayContainedBy ArrayOverlaps
ArrayPosition ArrayRemove ArraySize ArrayToString Ascii Asin AtTimeZone Atan Atan2 Avg BitLength
BitwiseAndAgg BitwiseOrAgg Case Cast Cbrt Ceil Chr Coalesce Concat ConcatWs Corr Cos Cosh Cot Count CovarPop
CovarSamp CumeDist CurrentDate CurrentTime CurrentTimestamp Date DateBin Degrees DenseRank Encode Exists Exp
Explode ExplodingGenerateSeries Extract Factorial FirstValue Floor Format Greatest GroupConcat Grouping Hex
If Initcap JSONArrayAgg JSONBContains JSONBExtract JSONBExtractScalar JSONBObjectAgg JSONExtract
JSONExtractScalar JSONObject JSONObjectAgg JSONRemove JSONSet JSONType JustifyDays JustifyHours
JustifyInterval Lag LastValue Lead Least Left Length Ln Localtime Localtimestamp Log LogicalAnd LogicalOr
Lower MD5 MakeInterval Max Median Min Mode NthValue Ntile Nullif Or Overlay PercentRank PercentileCont
PercentileDisc Pi Pow Radians Rand Rank RegexpCount RegexpILike RegexpLike RegexpReplace RegexpSubstr
RegrIntercept RegrR2 RegrSlope Replace Reverse Right Round RowNumber Sign Sin Sinh Soundex SplitPart Sqrt
StartsWith Stddev StddevPop StddevSamp StrPosition StrToDate StrToTime StringToArray Substring Sum Tan Tanh
Time TimeToStr Timestamp TimestampFromParts TimestampTrunc ToNumber Translate Trim Trunc TsOrDsToTimestamp
Typeof Unicode UnixToTime Unnest Upper Variance VariancePop WidthBucket Xor
"""
)
"""The same as the parser names them once it has understood them."""
