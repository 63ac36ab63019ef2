"""The functions a statement may use: what computes on values, and nothing that reaches out of the query.

Left out on purpose: everything that reads or writes files, sleeps, locks, changes settings, opens
connections, runs text as SQL, or makes a large value out of a small one (`zeroblob`; `repeat` and its like
with anything but a small number that is written out).
"""

from __future__ import annotations

__all__ = ["COMMON", "NAMES", "PARSED", "SIZED", "named"]


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
total typeof unicode unixepoch unlikely acosh asinh atanh concat concat_ws cosh if json_array_insert
json_error_position json_pretty jsonb jsonb_array jsonb_extract jsonb_group_array jsonb_group_object
jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set octet_length sinh subtype tanh
unhex
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
width_bucket abbrev acosd acosh array_dims array_ndims array_positions array_replace array_to_tsvector asind
asinh atan2d atand atanh bit_count bit_xor broadcast character_length cosd cotd datemultirange decode
enum_range family generate_subscripts get_bit get_byte hashtext host hostmask inet_merge inet_same_family
int4multirange int8multirange int8range is_normalized json_object json_strip_nulls json_to_record
json_to_recordset jsonb_object jsonb_path_match jsonb_path_query_array jsonb_path_query_first jsonb_pretty
json_populate_record json_populate_recordset json_to_tsvector jsonb_contained jsonb_contains jsonb_delete
jsonb_delete_path jsonb_exists jsonb_exists_all jsonb_exists_any jsonb_populate_record jsonb_populate_recordset
jsonb_to_tsvector float4 float8 int2 int4 int8 pg_column_size pg_typeof row
jsonb_set jsonb_set_lax jsonb_insert lower_inf make_time make_timestamptz masklen multirange netmask network
normalize nummultirange numnode parse_ident pg_size_bytes pg_size_pretty querytree quote_ident quote_literal
quote_nullable range_agg range_intersect_agg range_merge regexp_instr regr_avgx regr_avgy regr_count
regr_sxx regr_sxy regr_syy set_bit set_byte setweight sha224 sha256 sha384 sha512 similarity sind
string_to_table strip strict_word_similarity tand timezone timeofday to_ascii to_hex trim_array trim_scale
ts_delete ts_filter tsmultirange tsquery_phrase tstzmultirange tsvector_to_array unaccent unistr upper_inf
word_similarity area array_to_json bound_box box center circle diagonal diameter height isclosed isopen line lseg
path pclose point polygon popen radius slope width xml_is_well_formed xpath xpath_exists
"""

_MARIADB = """
adddate addtime aes_decrypt aes_encrypt ascii bin bit_and bit_count bit_length bit_or bit_xor char
character_length conv convert_tz crc32 curdate current_date current_time current_timestamp curtime date_add
date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear elt export_set field find_in_set
format from_days from_unixtime get_format group_concat hex hour if inet6_aton inet6_ntoa inet_aton inet_ntoa
insert instr interval isnull json_array json_array_append json_array_insert json_arrayagg json_compact
json_contains json_contains_path json_depth json_detailed json_exists json_extract json_insert json_keys
json_length json_merge_patch json_merge_preserve json_object json_objectagg json_overlaps json_query
json_quote json_remove json_replace json_search json_set json_table json_type json_unquote json_valid
json_value last_day lcase left localtime localtimestamp locate make_set makedate maketime md5 median
microsecond mid minute month monthname natural_sort_key now octet_length ord percentile_cont percentile_disc
period_add period_diff position quarter quote rand regexp_instr regexp_like regexp_replace regexp_substr
reverse right sec_to_time second sha sha1 sha2 soundex st_x st_y std stddev stddev_pop stddev_samp
str_to_date strcmp subdate substring_index subtime sysdate time_format time_to_sec timediff timestampadd
timestampdiff to_base64 to_char to_days to_seconds ucase unhex unix_timestamp utc_date utc_time
utc_timestamp uuid values var_pop var_samp variance week weekday weekofyear year yearweek any_value atan
coercibility collation column_get crc32c json_array_intersect json_equals json_loose json_normalize
json_object_filter_keys json_object_to_array json_pretty json_valid length lengthb mbrcontains mbrwithin
point st_area st_asgeojson st_astext st_buffer st_centroid st_contains st_crosses st_distance
st_distance_sphere st_equals st_geomfromgeojson st_geomfromtext st_intersects st_length st_numpoints
st_overlaps st_pointfromtext st_touches st_within substr sum timestamp to_number trunc uncompressed_length
unhex charset extractvalue row uuid_short value
"""

_DUCKDB = """
age any_value approx_count_distinct approx_quantile arg_max arg_min argmax argmin array_agg array_concat
array_contains array_length array_slice array_to_string bar bit_and bit_count bit_or bit_xor bool_and
bool_or cbrt century chr contains corr covar_pop covar_samp current_date current_timestamp
damerau_levenshtein date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day
dayname dayofmonth dayofweek dayofyear decade editdist3 element_at ends_with entropy epoch epoch_ms epoch_ns
epoch_us era even factorial favg flatten format fsum gamma gcd generate_series geomean
greatest_common_divisor group_concat grouping hamming hash histogram hour ilike_escape instr isfinite isinf
isnan isodow isoyear jaccard jaro_similarity jaro_winkler_similarity json json_array json_array_length
json_contains json_extract json_extract_path json_extract_path_text json_extract_string json_group_array
json_group_object json_keys json_object json_type json_valid julian kurtosis last last_day lcm left len
levenshtein lgamma list list_aggregate list_any_value list_append list_apply list_avg list_concat
list_contains list_count list_distinct list_element list_extract list_filter list_has_all list_has_any
list_max list_min list_position list_reduce list_reverse list_slice list_sort list_sum list_transform
list_unique list_value list_zip listagg log mad make_date make_time make_timestamp map map_entries
map_extract map_from_entries map_keys map_values max_by md5 mean median microsecond millennium millisecond
min_by minute mode month monthname multiply nextafter now nullif ord parse_filename position prefix printf
product quantile quantile_cont quantile_disc quarter range regexp_extract regexp_extract_all
regexp_full_match regexp_matches regexp_replace regexp_split_to_array regr_avgx regr_avgy regr_count
regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy reservoir_quantile reverse right roundbankers
row second sem sha256 signbit skewness split split_part starts_with stddev stddev_pop stddev_samp str_split
str_split_regex strftime string_agg string_split string_to_array strip_accents strlen strpos strptime
struct_extract struct_pack suffix sum_no_overflow summarize time_bucket to_base64 to_days to_hours to_json
to_microseconds to_milliseconds to_minutes to_months to_seconds to_timestamp to_weeks to_years today
transaction_timestamp translate trunc try_strptime typeof unicode unnest var_pop var_samp variance week
weekday weekofyear xor year yearweek acosh add ago approx_top_k arbitrary arg_max_null arg_min_null
array_aggregate array_append array_apply array_cat array_cosine_distance array_cosine_similarity
array_cross_product array_distance array_distinct array_dot_product array_extract array_filter array_has
array_has_all array_has_any array_indexof array_inner_product array_intersect array_pop_back array_pop_front
array_position array_prepend array_push_back array_push_front array_reduce array_reverse array_reverse_sort
array_select array_sort array_to_json array_transform array_unique array_value array_where array_zip ascii
asinh atanh base64 bin bit_length bit_position bitstring bitstring_agg cardinality cosh cot count_if countif
days_in_month decode divide encode enum_code enum_first enum_last enum_range equi_width_bins fdiv filter
first fmod format_bytes from_base64 from_binary from_hex from_json from_json_strict generate_subscripts
geometric_mean get_bit hex histogram_exact json_deep_merge json_exists json_group_structure json_insert
json_merge_patch json_normalize json_pretty json_quote json_remove json_replace json_set json_strip_nulls
json_structure json_transform json_transform_strict json_value kahan_sum kurtosis_pop lcase
least_common_multiple left_grapheme length_grapheme list_aggr list_approx_count_distinct list_bit_and
list_bit_or list_bit_xor list_bool_and list_bool_or list_cat list_cosine_distance list_cosine_similarity
list_distance list_dot_product list_entropy list_first list_grade_up list_has list_histogram list_indexof
list_inner_product list_intersect list_kurtosis list_last list_mad list_median list_mode list_pack
list_prepend list_product list_reverse_sort list_select list_sem list_skewness list_stddev_pop
list_stddev_samp list_string_agg list_var_pop list_var_samp list_where lttb make_timestamp_ms
make_timestamp_ns make_timestamptz map_concat map_contains map_extract_value md5_number mismatches
nanosecond nfc_normalize octet_length overlay pg_size_pretty pg_typeof reduce regexp_escape
regexp_split_to_table right_grapheme round_even row_to_json set_bit sha1 sinh st_area st_asgeojson st_astext
st_contains st_distance st_geomfromtext st_intersects st_point st_within string_split_regex struct_concat
struct_contains struct_extract_at struct_has struct_insert struct_keys struct_position struct_update
struct_values substring_grapheme subtract sumkahan tanh timezone timezone_hour timezone_minute to_binary
to_centuries to_decades to_hex to_millennia to_quarters trim_array ucase unbin unhex union_extract union_tag
union_value url_decode url_encode uuid_extract_timestamp uuid_extract_version wavg weighted_avg
arg_max_nulls_last arg_min_nulls_last fill
"""

COMMON = named(_BOTH)
"""What every database has."""

NAMES = {
    "sqlite": named(_BOTH, _SQLITE),
    "postgres": named(_BOTH, _POSTGRES),
    "mysql": named(_BOTH, _MARIADB),
    "duckdb": named(_BOTH, _DUCKDB),
}
"""As they are written in a statement, by dialect."""

SIZED = {"Pad": "expression", "Repeat": "times", "Space": "this"}
"""Make a large value out of a small one: allowed with a small number that is written out, as the parser names
them, and the argument that is the number."""

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
Typeof Unicode UnixToTime Unnest Upper Variance VariancePop WidthBucket Xor AnyValue ApproxDistinct
ApproxQuantile ArgMax ArgMin ArrayContains ArrayDistinct ArrayFilter ArrayReverse ArraySlice ArraySort
ArraySum ArrayUniqueAgg Convert ConvertTimezone CurrentDatetime DateAdd DateDiff DateSub DateToDi DateTrunc
Day DayOfMonth DayOfWeek DayOfYear DayOfWeekIso Dayname DenseRank Elt EndsWith FromBase64 FromTimeZone
GenerateSeries Hour Int IsInf IsNan JSONArray JSONArrayContains JSONKeys JSONValue Kurtosis LastDay
Levenshtein List ListConcat LogicalAnd MD5Digest MakeDate Map MapFromEntries Minute Month Monthname
NumberToStr Quantile Quarter RegexpExtract RegexpExtractAll RegexpFullMatch RegexpInstr RegexpSplit
RowNumber SHA SHA2 SafeDivide Second Skewness SortArray Split Stuff StrToUnix Strftime String Struct
StructExtract SubstringIndex TimeDiff TimeStrToTime TimeToUnix TimestampAdd TimestampDiff TimestampSub
ToBase64 ToChar ToDays Transform TryCast TsOrDsAdd TsOrDsDiff TsOrDsToDate TsOrDsToTime Unhex UnixDate
UnixSeconds UtcDate UtcTime UtcTimestamp Uuid Week WeekOfYear Year YearOfWeek Acosh AddMonths
ApproxQuantiles ApproxTopK ArrayAll ArrayAny ArrayCompact ArrayConcatAgg ArrayExcept ArrayFirst ArrayInsert
ArrayIntersect ArrayLast ArrayMax ArrayMin ArrayPrepend ArraysZip Asinh Atanh Base64DecodeBinary
Base64DecodeString Base64Encode BitwiseCount BitwiseXorAgg Booland Boolnot Boolor ByteLength Collate Columns
Contains CosineDistance Coth CountIf Csc DateFromParts DateFromUnixDate DateStrToDate DateToDateStr Datetime
DatetimeAdd DatetimeDiff DatetimeSub DatetimeTrunc Decode DotProduct EqualNull EuclideanDistance First
Flatten FromBase FromJson GenerateDateArray GenerateTimestampArray Getbit GroupingId JSONArrayAppend
JSONArrayInsert JSONBContainsAllTopKeys JSONBContainsAnyTopKeys JSONBContainsTopKey JSONBDeleteAtPath
JSONBExists JSONBPathExists JSONBool JSONExists JSONExtractArray JSONFormat JSONStripNulls JSONTable
JSONValueArray JarowinklerSimilarity Last LowerHex MD5NumberLower64 MD5NumberUpper64 ManhattanDistance
MapCat MapContainsKey MapKeys MapSize MatchAgainst MonthsBetween Nanvl NextDay Normalize Nvl2 ObjectAgg
ParseJSON PreviousDay Reduce RegrAvgx RegrAvgy RegrCount RegrSxx RegrSxy RegrSyy Rint SHA1Digest SHA2Digest
SafeAdd SafeMultiply SafeNegate SafeSubtract Sec StDistance StPoint StarMap Strtok TimeAdd TimeFromParts
TimeStrToDate TimeStrToUnix TimeSub TimeToTimeStr TimeTrunc TimestampTzFromParts ToArray ToBinary ToBoolean
ToDouble ToMap Try TsOrDsToDateStr TsOrDsToDatetime UnixMicros UnixMillis UnixToStr VarMap WeekStart
YearOfWeekIso Collation
"""
)
"""The same as the parser names them once it has understood them."""
