//! What does a typed threshold mean? Our words and k6's; an error names the character.

use std::str::FromStr;

use super::{Counter, Figure, Limited, Operator, Peak, Statistic, Threshold, Time, Timed, class_name};
use crate::error::nearest;
use crate::outcome::OutcomeClass;
use crate::pace::parse_duration;
use crate::{Error, Result};

/// Times saturate there when they are recorded, so that no limit above could be missed.
const LONGEST_NANOS: u128 = 3_600_000_000_000;
/// k6's names for what has a name here.
const K6: [(&str, &str); 5] = [
    ("iteration_duration", "response"),
    ("op_duration", "response"),
    ("iteration_failed", "failed"),
    ("op_failed", "failed"),
    ("dropped_iterations", "dropped"),
];
/// Our words for metrics, without the classes of outcome.
const METRICS: [&str; 10] =
    ["response", "service", "wait", "lag", "pool_use", "server_use", "failed", "dropped", "iterations", "checks"];
const STATISTICS: &str = "p(95), avg, med, min or max";

impl FromStr for Threshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|Mistake { at, what }| {
            let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
            Error::usage(format!("threshold `{text}`: at character {character}: {what}")).cure(
                "METRIC:FIGURE OPERATOR LIMIT, such as reserve.response:p(95)<200ms, aborted:rate<1% or committed:rate>=100/s",
            )
        })
    }
}

/// What is wrong, and at which byte.
struct Mistake {
    at: usize,
    what: String,
}

fn mistake<T>(at: usize, what: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { at, what: what.into() })
}

/// A word before the operator, and where it begins.
#[derive(Clone, Copy)]
struct Word<'a> {
    at: usize,
    text: &'a str,
    /// Whether a colon stands before it.
    after_colon: bool,
}

fn parse(text: &str) -> Result<Threshold, Mistake> {
    let Some(split) = text.find(['<', '>', '=', '!']) else {
        return mistake(text.trim_end().len(), "an operator and a limit are missing");
    };
    let (left, right) = text.split_at(split);
    let limit_at = split + right.find(|c| !matches!(c, '<' | '>' | '=' | '!')).unwrap_or(right.len());
    let typed = &text[split..limit_at];
    let Some(operator) = Operator::ALL.into_iter().find(|operator| operator.text() == typed) else {
        return mistake(split, format!("there is no operator `{typed}`; there are < <= > >= == and !="));
    };
    let (words, tag) = words(left)?;
    let Some((last, path)) = words.split_last() else { return mistake(0, "a metric is missing") };
    let Some((metric, before)) = path.split_last().filter(|_| !is_metric(last.text)) else { return without_figure(last, left) };
    if let Some(ours) = foreign(metric.text) {
        return mistake(metric.at, ours);
    }
    let (name, k6) = match K6.iter().find(|(theirs, _)| *theirs == metric.text) {
        Some((_, ours)) => (*ours, true),
        None => (metric.text, metric.text == "iterations" && last.after_colon),
    };
    let (subject, before) = subject(name, metric, before)?;
    let operation = operation(before, tag)?;
    let limit_text = text[limit_at..].trim();
    let limit_at = text.len() - text[limit_at..].trim_start().len();
    let (figure, limit) = match subject {
        Subject::Timed(timed) => {
            let statistic = statistic(last)?;
            if matches!(operator, Operator::Equal | Operator::NotEqual) {
                return mistake(split, "times are measured, not counted: compare them with < <= > or >=");
            }
            (Figure::Time(timed, statistic), time(limit_text, limit_at)?)
        }
        Subject::Counter(counter) => counted(counter, last, limit_text, limit_at, k6)?,
        Subject::Limited(limited) => used(limited, last, limit_text, limit_at)?,
    };
    if operation.is_some() && matches!(figure, Figure::Time(Timed::Wait | Timed::Lag, _) | Figure::Use(..))
        || operation.is_some() && name == "dropped"
    {
        let at = before.first().map_or(metric.at, |word| word.at);
        return mistake(at, format!("`{name}` is of the whole load, not of an operation"));
    }
    let highest = if matches!(figure, Figure::Share(_) | Figure::Use(..)) { 1.0 } else { f64::INFINITY };
    let (lowest_kept, highest_kept) = (operator.holds(0.0, limit), operator.holds(highest, limit));
    if !lowest_kept && !highest_kept && operator != Operator::Equal {
        return mistake(split, "no figure can be so");
    }
    if lowest_kept && highest_kept && operator != Operator::NotEqual {
        return mistake(split, "every figure is so: this would promise nothing");
    }
    Ok(Threshold { abort_on_fail: false, operation, figure, operator, limit })
}

/// The words before the operator, and the operation of k6's tag `{op:NAME}`.
fn words(left: &str) -> Result<(Vec<Word<'_>>, Option<Word<'_>>), Mistake> {
    let mut words = Vec::new();
    let mut tag = None;
    let mut at = 0;
    let mut after_colon = false;
    let skip = |at: usize| left.len() - left[at..].trim_start().len();
    loop {
        at = skip(at);
        let end = word_end(left, at)?;
        if end == at {
            return match left[at..].chars().next() {
                Some(c) => mistake(at, format!("`{c}` stands where a name should be")),
                None if words.is_empty() => mistake(at, "a metric is missing"),
                None => mistake(at, "a figure is missing"),
            };
        }
        words.push(Word { at, text: &left[at..end], after_colon });
        at = skip(end);
        if left[at..].starts_with('{') {
            let Some(length) = left[at..].find('}') else { return mistake(at, "this bracket is not closed") };
            let inside = &left[at + 1..at + length];
            match inside.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("op", text)) if tag.is_none() => tag = Some(Word { at: at + 1, text, after_colon: false }),
                _ => return mistake(at, "only one tag is known: {op:NAME}"),
            }
            at = skip(at + length + 1);
        }
        match left[at..].chars().next() {
            None => return Ok((words, tag)),
            Some(c @ ('.' | ':')) => after_colon = c == ':',
            Some(c) => return mistake(at, format!("`{c}` stands where a dot, a colon or an operator should be")),
        }
        at += 1;
    }
}

/// Where the word ends that begins at `at`. `p(99.9)` and `p99.9` are words too.
fn word_end(left: &str, at: usize) -> Result<usize, Mistake> {
    let until = |from: usize, is: fn(char) -> bool| left[from..].find(|c| !is(c)).map_or(left.len(), |length| from + length);
    let end = until(at, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let word = &left[at..end];
    let after = left[end..].trim_start();
    if word == "p" && after.starts_with('(') {
        let open = left.len() - after.len();
        let Some(length) = after.find(')') else { return mistake(open, "this bracket is not closed") };
        return Ok(open + length + 1);
    }
    let is_percentile = word.strip_prefix('p').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let fraction = left[end..].strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Ok(if is_percentile && fraction { until(end + 1, |c| c.is_ascii_digit()) } else { end })
}

fn class(word: &str) -> Option<OutcomeClass> {
    OutcomeClass::ALL.into_iter().find(|class| class_name(*class) == word)
}

fn is_metric(word: &str) -> bool {
    METRICS.contains(&word) || class(word).is_some() || K6.iter().any(|(theirs, _)| *theirs == word)
}

/// Ours for a metric of k6 that has no meaning here.
fn foreign(word: &str) -> Option<&'static str> {
    match word {
        "http_req_failed" => Some("there is no HTTP here: what fails is `failed:rate<1%` (aborted or unknown)"),
        http if http.starts_with("http_req") => {
            Some("there is no HTTP here: how long an iteration takes is `response:p(95)<500ms`")
        }
        _ => None,
    }
}

fn unknown_metric(word: &Word<'_>) -> String {
    let near = nearest(word.text, METRICS.into_iter().chain(OutcomeClass::ALL.map(class_name)).chain(K6.map(|(theirs, _)| theirs)));
    format!("there is no metric `{}`{}", word.text, near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())
}

/// There is no figure, or nothing but a figure.
fn without_figure(word: &Word<'_>, left: &str) -> Result<Threshold, Mistake> {
    if let Some(ours) = foreign(word.text) {
        return mistake(word.at, ours);
    }
    if !is_metric(word.text) {
        let is_figure = matches!(word.text, "count" | "rate") || statistic(word).is_ok();
        return mistake(
            word.at,
            if is_figure { format!("of which metric should this be {}?", word.text) } else { unknown_metric(word) },
        );
    }
    let of_times = matches!(word.text, "response" | "service" | "wait" | "lag") || word.text.ends_with("_duration");
    let of_use = Limited::ALL.iter().any(|limited| limited.name() == word.text);
    let figures = if of_times {
        STATISTICS
    } else if of_use {
        "avg or max"
    } else {
        "count or rate"
    };
    mistake(left.trim_end().len(), format!("`{}` needs a figure: {figures}", word.text))
}

/// What a metric is about.
enum Subject {
    Timed(Timed),
    Counter(Counter),
    Limited(Limited),
}

/// Reads the metric, with the class of outcome that may stand before it; gives back what stands before both.
fn subject<'w, 'a>(name: &str, metric: &Word<'a>, before: &'w [Word<'a>]) -> Result<(Subject, &'w [Word<'a>]), Mistake> {
    let counter = |counter| Ok((Subject::Counter(counter), before));
    match name {
        "response" | "service" => {
            let time = if name == "response" { Time::Response } else { Time::Service };
            let (class, before) = match before.split_last().and_then(|(last, rest)| Some((class(last.text)?, rest))) {
                Some(found) => found,
                None => (OutcomeClass::Committed, before),
            };
            Ok((Subject::Timed(Timed::Iteration(class, time)), before))
        }
        "wait" => Ok((Subject::Timed(Timed::Wait), before)),
        "lag" => Ok((Subject::Timed(Timed::Lag), before)),
        "failed" => counter(Counter::Failed),
        "dropped" => counter(Counter::Dropped),
        "iterations" => counter(Counter::Iterations),
        "checks" => counter(Counter::Checks),
        other => match (class(other), Limited::ALL.into_iter().find(|limited| limited.name() == other)) {
            (Some(class), _) => counter(Counter::Class(class)),
            (_, Some(limited)) => Ok((Subject::Limited(limited), before)),
            (None, None) => mistake(metric.at, unknown_metric(metric)),
        },
    }
}

/// The operation before the metric, or in the tag.
fn operation(before: &[Word<'_>], tag: Option<Word<'_>>) -> Result<Option<String>, Mistake> {
    let word = match (before, tag) {
        ([], None) => return Ok(None),
        ([], Some(word)) => word,
        ([word], None) => *word,
        ([word, ..], Some(_)) => return mistake(word.at, "the operation is given twice"),
        ([_, word, ..], None) => return mistake(word.at, format!("`{}` is one name too many: OPERATION.METRIC:FIGURE", word.text)),
    };
    let is_name = word.text.starts_with(|c: char| c.is_ascii_lowercase())
        && word.text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !is_name || is_metric(word.text) {
        return mistake(word.at, format!("`{}` cannot be the name of an operation", word.text));
    }
    Ok(Some(word.text.to_owned()))
}

fn statistic(word: &Word<'_>) -> Result<Statistic, Mistake> {
    match word.text {
        "avg" => return Ok(Statistic::Average),
        "med" => return Ok(Statistic::Percentile(50.0)),
        "min" => return Ok(Statistic::Minimum),
        "max" => return Ok(Statistic::Maximum),
        _ => {}
    }
    let inside = word.text.strip_prefix('p').map(|rest| rest.trim().trim_start_matches('(').trim_end_matches(')').trim());
    match inside.filter(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.')).and_then(|text| text.parse::<f64>().ok()) {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(Statistic::Percentile(percent)),
        Some(_) => mistake(word.at, "a percentile lies between 0 and 100; the ends are min and max"),
        None => {
            let near = nearest(word.text, ["avg", "med", "min", "max", "p(95)", "p(99)"]);
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            mistake(word.at, format!("times have no figure `{}`; they have {STATISTICS}{near}", word.text))
        }
    }
}

/// A limit of time, in nanoseconds.
fn time(text: &str, at: usize) -> Result<f64, Mistake> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let read = if plain { parse_duration(&format!("{text}ms")) } else { parse_duration(text) };
    match read {
        Ok(limit) if limit.as_nanos() <= LONGEST_NANOS => Ok(limit.as_nanos() as f64),
        Ok(_) => mistake(at, "times are measured up to an hour"),
        Err(_) if text.is_empty() => mistake(at, "a limit is missing"),
        Err(error) => mistake(at, error.message()),
    }
}

/// A figure of a counter with its limit.
fn counted(counter: Counter, figure: &Word<'_>, text: &str, at: usize, k6: bool) -> Result<(Figure, f64), Mistake> {
    let number = |text: &str| match text.trim_end().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number + 0.0),
        _ if text.is_empty() => mistake(at, "a limit is missing"),
        _ => mistake(at, format!("`{text}` is not a number of at least 0")),
    };
    match figure.text {
        "count" if text.ends_with("/s") || text.ends_with('%') => mistake(at, "a count has no unit; `rate` has /s and %"),
        "count" => Ok((Figure::Count(counter), number(text)?)),
        "rate" => {
            if let Some(text) = text.strip_suffix("/s") {
                return Ok((Figure::PerSecond(counter), number(text)?));
            }
            let (share, typed) = match text.strip_suffix('%') {
                Some(percent) => (number(percent)? / 100.0, true),
                None => (number(text)?, false),
            };
            // k6's rate of a counter is per second.
            if k6 && !typed && matches!(counter, Counter::Iterations | Counter::Dropped) {
                return Ok((Figure::PerSecond(counter), share));
            }
            if counter == Counter::Iterations {
                return mistake(at, "iterations are no share of themselves; write them per second, such as 100/s");
            }
            if share > 1.0 {
                return mistake(at, format!("a share is at most 1 or 100%; per second it is `{text}/s`"));
            }
            Ok((Figure::Share(counter), share))
        }
        other => {
            let near = nearest(other, ["count", "rate"]).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            mistake(figure.at, format!("`{}` has no figure `{other}`; it has count and rate{near}", counter.name()))
        }
    }
}

/// Average or maximum of a share.
fn used(limited: Limited, figure: &Word<'_>, text: &str, at: usize) -> Result<(Figure, f64), Mistake> {
    let peak = match figure.text {
        "avg" => Peak::Average,
        "max" => Peak::Maximum,
        other => {
            let near = nearest(other, ["avg", "max"]).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return mistake(figure.at, format!("`{}` has no figure `{other}`; it has avg and max{near}", limited.name()));
        }
    };
    let (digits, unit) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    match digits.trim_end().parse::<f64>() {
        Ok(number) if (0.0..=unit).contains(&number) => Ok((Figure::Use(limited, peak), number / unit)),
        Ok(_) => mistake(at, "a share is at most 1 or 100%"),
        Err(_) => mistake(at, "a share is missing, such as 90%"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_has_one_meaning() {
        for (typed, canonical) in [
            ("reserve.response:p(95)<200ms", "reserve.response:p(95)<200ms"),
            ("pool_use:avg < 70%", "pool_use:avg<0.7"),
            ("server_use.max<=0.9", "server_use:max<=0.9"),
            (" reserve.response.p(95) < 200 ms ", "reserve.response:p(95)<200ms"),
            ("reserve.response.p95<0.2s", "reserve.response:p(95)<200ms"),
            ("response:p95<150", "response:p(95)<150ms"),
            ("committed.response:p95<150", "response:p(95)<150ms"),
            ("service:p(99.9)<1s", "service:p(99.9)<1s"),
            ("service.p99.9<1.5s", "service:p(99.9)<1s500ms"),
            ("service:p ( 99.90 )<=1000", "service:p(99.9)<=1s"),
            ("response:med<10", "response:p(50)<10ms"),
            ("response:avg<0.5", "response:avg<500us"),
            ("response:min>1us", "response:min>1us"),
            ("wait:max<10ms", "wait:max<10ms"),
            ("lag.p(99) <5ms", "lag:p(99)<5ms"),
            ("refused.response:p(95)<50ms", "refused.response:p(95)<50ms"),
            ("reserve.refused.response:p(95)<50ms", "reserve.refused.response:p(95)<50ms"),
            ("book-2_x.aborted.service:max<50ms", "book-2_x.aborted.service:max<50ms"),
            ("unknown.count == 0", "unknown:count==0"),
            ("replayed.rate > 10%", "replayed:rate>0.1"),
            ("replayed.response:p(95) < 50", "replayed.response:p(95)<50ms"),
            ("committed.count>=1000", "committed:count>=1000"),
            ("reserve.aborted.rate<0.01", "reserve.aborted:rate<0.01"),
            ("aborted.rate<7%", "aborted:rate<0.07"),
            ("aborted.rate!=0", "aborted:rate!=0"),
            ("committed.rate>=100/s", "committed:rate>=100/s"),
            ("committed.rate >= 100 /s", "committed:rate>=100/s"),
            ("iterations.rate>100/s", "iterations:rate>100/s"),
            ("dropped.rate<0.1%", "dropped:rate<0.001"),
            ("failed:rate<=1%", "failed:rate<=0.01"),
            ("iteration_duration:p(95)<500", "response:p(95)<500ms"),
            ("iteration_duration{op:reserve}: p(95)<500", "reserve.response:p(95)<500ms"),
            ("op_duration{ op: reserve }:p(95)<500", "reserve.response:p(95)<500ms"),
            ("iterations:rate>100", "iterations:rate>100/s"),
            ("iterations{op:reserve}:count>100", "reserve.iterations:count>100"),
            ("dropped_iterations:count==0", "dropped:count==0"),
            ("dropped_iterations:rate<5", "dropped:rate<5/s"),
            ("iteration_failed:rate<0.01", "failed:rate<0.01"),
            ("op_failed{op:release}:rate<0.01", "release.failed:rate<0.01"),
        ] {
            let threshold: Threshold = typed.parse().unwrap_or_else(|e| panic!("{typed}: {e}"));
            assert_eq!(threshold.to_string(), canonical, "{typed}");
            assert_eq!(canonical.parse::<Threshold>().unwrap(), threshold, "{canonical}");
        }
    }

    #[test]
    fn errors_name_the_place_and_a_way_out() {
        for (typed, said) in [
            ("", "at character 1: an operator and a limit are missing"),
            ("response:p(95)", "at character 15: an operator and a limit are missing"),
            ("<200ms", "at character 1: a metric is missing"),
            ("response:<200ms", "at character 10: a figure is missing"),
            ("response<200ms", "at character 9: `response` needs a figure: p(95), avg"),
            ("reserve.dropped==0", "at character 16: `dropped` needs a figure: count or rate"),
            ("p(95)<200ms", "at character 1: of which metric should this be p(95)?"),
            ("reserve.respnse:p(95)<1", "at character 9: there is no metric `respnse`; did you mean `response`?"),
            ("latency<1", "at character 1: there is no metric `latency`"),
            ("response:p(95<1", "at character 11: this bracket is not closed"),
            ("response:p(100)<1", "at character 10: a percentile lies between 0 and 100"),
            ("response:p(x)<1", "at character 10: times have no figure `p(x)`"),
            ("response:p()<1", "at character 10: times have no figure `p()`"),
            ("response:mad<1", "did you mean `max`?"),
            ("response:rate<1", "at character 10: times have no figure `rate`; they have p(95), avg"),
            ("aborted:cuont<1", "at character 9: `aborted` has no figure `cuont`; it has count and rate; did you mean `count`?"),
            ("aborted:p(95)<1", "at character 9: `aborted` has no figure `p(95)`"),
            ("response:p(95)=<1", "at character 15: there is no operator `=<`; there are < <= > >= == and !="),
            ("response:p(95)=1", "there is no operator `=`"),
            ("response:p(95)==1", "at character 15: times are measured, not counted"),
            ("response:p(95)<", "at character 16: a limit is missing"),
            ("response:p(95)<fast", "at character 16: `fast` is not a duration"),
            ("response:p(95)<5 parsecs", "there is no unit `parsecs`"),
            ("response:p(95)<2h", "times are measured up to an hour"),
            ("aborted:count<", "at character 15: a limit is missing"),
            ("aborted:count<-1", "at character 15: `-1` is not a number of at least 0"),
            ("aborted:count<1%", "a count has no unit"),
            ("aborted:rate<5", "a share is at most 1 or 100%; per second it is `5/s`"),
            ("iterations.rate>100", "at character 17: iterations are no share of themselves; write them per second"),
            ("iterations:rate>50%", "iterations are no share of themselves"),
            ("reserve.wait:max<5", "at character 1: `wait` is of the whole load"),
            ("reserve.dropped:count==0", "at character 1: `dropped` is of the whole load"),
            ("a.b.response:max<5", "at character 3: `b` is one name too many"),
            ("Reserve.response:max<5", "at character 1: `Reserve` cannot be the name of an operation"),
            ("response.response:max<5", "at character 1: `response` cannot be the name"),
            ("reserve.op_duration{op:reserve}:max<5", "at character 1: the operation is given twice"),
            ("op_duration{scenario:x}:max<5", "at character 12: only one tag is known: {op:NAME}"),
            ("op_duration{op:x:max<5", "at character 12: this bracket is not closed"),
            ("response?max<5", "at character 9: `?` stands where a dot, a colon or an operator should be"),
            ("response:/max<5", "at character 10: `/` stands where a name should be"),
            (
                "http_req_duration:p(95)<500",
                "at character 1: there is no HTTP here: how long an iteration takes is `response:p(95)<500ms`",
            ),
            ("http_req_failed:rate<0.01", "`failed:rate<1%`"),
            ("checks>0.9", "`checks` needs a figure"),
            ("äöü.response:max<5", "at character 1: `ä` stands where a name should be"),
            ("response:max<5ä", "at character 14:"),
            ("aborted:rate<0", "no figure can be so"),
            ("committed:rate>1", "no figure can be so"),
            ("committed:count>=0", "every figure is so"),
            ("committed:rate<=100%", "every figure is so"),
        ] {
            let error = typed.parse::<Threshold>().expect_err(typed).to_string();
            assert!(error.contains(said), "{typed}: {error}");
            assert!(error.contains("reserve.response:p(95)<200ms"), "an example: {error}");
        }
    }

    #[test]
    fn a_file_holds_a_string_or_a_table() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct File {
            thresholds: Vec<Threshold>,
        }
        let file: File =
            toml::from_str("thresholds = ['aborted.rate<1%', { threshold = 'response:p95<150', abort_on_fail = true }]").unwrap();
        assert_eq!(file.thresholds.iter().map(|t| t.abort_on_fail).collect::<Vec<_>>(), [false, true]);
        let json = serde_json::to_string(&file.thresholds).unwrap();
        assert_eq!(json, r#"["aborted:rate<0.01",{"threshold":"response:p(95)<150ms","abort_on_fail":true}]"#);
        assert_eq!(serde_json::from_str::<Vec<Threshold>>(&json).unwrap(), file.thresholds);
        let wrong = |text: &str| toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(wrong("thresholds = ['respons:p95<1']").contains("did you mean `response`?"));
        assert!(wrong("thresholds = [{ threshold = 'wait:max<1', abortOnFail = true }]").contains("abortOnFail"));
        assert!(wrong("thresholds = [5]").contains("a threshold, or a table"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,40}", mixed in "(reserve|response|p\\(95|\\)|[.:<>=!{} %]|é|op:|rate|[0-9.]+|/s|ms){0,9}") {
            for text in [text, mixed] {
                if let Ok(threshold) = text.parse::<Threshold>() {
                    prop_assert_eq!(threshold.to_string().parse::<Threshold>().unwrap(), threshold);
                }
            }
        }

        #[test]
        fn limits_print_exactly(nanos in 1_u64..=3_600_000_000_000, share in 0.0001..1.0_f64, count in 0.1..1e15_f64) {
            for text in [format!("response:max<{nanos}ns"), format!("aborted:rate<{share}"), format!("committed:rate>={count}/s")] {
                let threshold: Threshold = text.parse().unwrap();
                prop_assert_eq!(threshold.to_string().parse::<Threshold>().unwrap(), threshold);
            }
        }
    }
}
