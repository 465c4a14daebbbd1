//! Grammar of predicates.

use winnow::ascii::{Caseless, float, multispace0};
use winnow::combinator::{
    alt, cut_err, delimited, empty, eof, fail, not, opt, preceded, repeat, separated, terminated, trace,
};
use winnow::error::{ContextError, StrContext, StrContextValue};
use winnow::prelude::*;
use winnow::token::{none_of, one_of, take_while};

use super::{Comparison, Condition, PredicateError, Value};

const MAX_BYTES: usize = 4096;
/// Parentheses are what the parser recurses on.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Condition, PredicateError> {
    if text.len() > MAX_BYTES || text.matches('(').count() > MAX_DEPTH {
        return Err(PredicateError::TooLong {
            max_bytes: MAX_BYTES,
            max_depth: MAX_DEPTH,
        });
    }
    let end = eof.context(expected("and, or, or the end"));
    terminated(preceded(multispace0, any), end)
        .parse(text)
        .map_err(|e| PredicateError::Syntax {
            text: text.to_owned(),
            position: text[..e.offset()].chars().count() + 1,
            expected: expectation(e.inner()),
        })
}

fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

fn expectation(error: &ContextError) -> String {
    let values = error.context().filter_map(|context| match context {
        StrContext::Expected(value) => Some(value.to_string()),
        _ => None,
    });
    let values: Vec<String> = values.collect();
    if values.is_empty() {
        "a condition".to_owned()
    } else {
        values.join(" or ")
    }
}

/// Conditions joined by `or`.
fn any(input: &mut &str) -> ModalResult<Condition> {
    joined(all, "or", Condition::Any).parse_next(input)
}

/// Conditions joined by `and`.
fn all(input: &mut &str) -> ModalResult<Condition> {
    joined(negation, "and", Condition::All).parse_next(input)
}

fn joined<'a>(
    mut operand: fn(&mut &'a str) -> ModalResult<Condition>,
    word: &'static str,
    join: fn(Vec<Condition>) -> Condition,
) -> impl ModalParser<&'a str, Condition, ContextError> {
    move |input: &mut &'a str| {
        let first = operand.parse_next(input)?;
        let mut conditions: Vec<Condition> =
            repeat(0.., preceded(keyword(word), cut_err(operand))).parse_next(input)?;
        if conditions.is_empty() {
            return Ok(first);
        }
        conditions.insert(0, first);
        Ok(join(conditions))
    }
}

fn negation(input: &mut &str) -> ModalResult<Condition> {
    let num_nots: usize = repeat(0.., keyword("not")).parse_next(input)?;
    let closing = cut_err(symbol(")")).context(expected("')'"));
    let group = delimited(symbol("("), cut_err(any), closing);
    let condition = alt((group, contains, of_column))
        .context(expected("a column"))
        .parse_next(input)?;
    Ok(negate_if(condition, num_nots % 2 == 1))
}

fn negate_if(condition: Condition, is_negated: bool) -> Condition {
    if is_negated {
        Condition::Not(Box::new(condition))
    } else {
        condition
    }
}

/// `'text' in column`
fn contains(input: &mut &str) -> ModalResult<Condition> {
    let text = text.parse_next(input)?;
    let column = cut_err(preceded(keyword("in"), column)).context(expected("in and a column of lists"));
    column
        .map(|column| Condition::Contains(column, text.clone()))
        .parse_next(input)
}

/// A column, and what is said of it.
fn of_column(input: &mut &str) -> ModalResult<Condition> {
    let column = column.parse_next(input)?;
    let is_null = preceded(
        keyword("is"),
        cut_err(terminated(opt(keyword("not")), keyword("null"))),
    );
    let is_null = is_null.context(expected("null or not null"));
    if let Some(negated) = opt(is_null).parse_next(input)? {
        return Ok(negate_if(Condition::IsNull(column), negated.is_some()));
    }
    if let Some(comparison) = opt(comparison).parse_next(input)? {
        let value = cut_err(value).parse_next(input)?;
        return Ok(Condition::Compare(column, comparison, value));
    }
    let is_negated = opt(keyword("not")).parse_next(input)?.is_some();
    let list = delimited(
        cut_err(symbol("(")).context(expected("'('")),
        separated(1.., cut_err(value), symbol(",")),
        cut_err(symbol(")")).context(expected("')'")),
    );
    let condition = opt(alt((
        preceded(keyword("in"), list).map(|values| Condition::In(column.clone(), values)),
        preceded(keyword("like"), cut_err(text).context(expected(TEXT)))
            .map(|pattern| Condition::Like(column.clone(), pattern)),
        preceded(
            keyword("between"),
            cut_err((terminated(value, keyword("and").context(expected("and"))), value)),
        )
        .map(|(low, high)| {
            Condition::All(vec![
                Condition::Compare(column.clone(), Comparison::GreaterOrEqual, low),
                Condition::Compare(column.clone(), Comparison::LessOrEqual, high),
            ])
        }),
    )))
    .parse_next(input)?;
    match condition {
        Some(condition) => Ok(negate_if(condition, is_negated)),
        None if is_negated => cut_err(fail)
            .context(expected("in, like or between"))
            .parse_next(input),
        None => Ok(Condition::IsTrue(column)),
    }
}

const TEXT: &str = "a text in single quotes";

fn comparison(input: &mut &str) -> ModalResult<Comparison> {
    alt((
        symbol("!=").value(Comparison::NotEqual),
        symbol("<>").value(Comparison::NotEqual),
        symbol("<=").value(Comparison::LessOrEqual),
        symbol(">=").value(Comparison::GreaterOrEqual),
        symbol("=").value(Comparison::Equal),
        symbol("<").value(Comparison::Less),
        symbol(">").value(Comparison::Greater),
    ))
    .parse_next(input)
}

fn value(input: &mut &str) -> ModalResult<Value> {
    alt((
        text.map(Value::Text),
        keyword("true").value(Value::Bool(true)),
        keyword("false").value(Value::Bool(false)),
        terminated(float, multispace0).map(Value::Number),
    ))
    .context(expected(TEXT))
    .context(expected("a number"))
    .parse_next(input)
}

/// `'it''s'`
fn text(input: &mut &str) -> ModalResult<String> {
    let character = alt(("''".value('\''), none_of('\'')));
    let characters = repeat(0.., character);
    terminated(delimited('\'', characters, '\''), multispace0).parse_next(input)
}

/// Names of columns have no upper case, so `CATEGORY` is `category`.
fn column(input: &mut &str) -> ModalResult<String> {
    let name = || take_while(1.., ('a'..='z', 'A'..='Z', '0'..='9', '_'));
    let bare = preceded(not(reserved), name());
    let column = alt((delimited('"', name(), '"'), bare));
    terminated(column, multispace0)
        .map(|name: &str| name.to_ascii_lowercase())
        .parse_next(input)
}

fn reserved(input: &mut &str) -> ModalResult<()> {
    let mut words = [
        "and", "or", "not", "in", "like", "between", "is", "null", "true", "false",
    ]
    .into_iter();
    let is_reserved = words.any(|word| keyword(word).parse_next(&mut { *input }).is_ok());
    if is_reserved {
        empty.parse_next(input)
    } else {
        fail.parse_next(input)
    }
}

/// A word in any case, and the space behind it.
fn keyword<'a>(word: &'static str) -> impl ModalParser<&'a str, (), ContextError> {
    let end = not(one_of(('a'..='z', 'A'..='Z', '0'..='9', '_')));
    trace(word, (Caseless(word), end, multispace0).void())
}

/// A symbol, and the space behind it.
fn symbol<'a>(symbol: &'static str) -> impl ModalParser<&'a str, (), ContextError> {
    (symbol, multispace0).void()
}
