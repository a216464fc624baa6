//! The fast path of rules: a field compared with a constant, without the CEL interpreter and without parsing more of the
//! payload than the field's own text. Says the same as CEL would. Called by `rule`.

use std::cmp::Ordering;

use cel::common::ast::{LiteralValue, operators};

use crate::definitions::FieldType;
use crate::json::typed::Cell;

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// What it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    Int(i64),
    Double(f64),
    Bool(bool),
    Text(String),
}

impl Operator {
    /// By the parser's name for it.
    pub fn named(name: &str) -> Option<Operator> {
        Some(match name {
            operators::LESS => Operator::Less,
            operators::LESS_EQUALS => Operator::LessOrEqual,
            operators::GREATER => Operator::Greater,
            operators::GREATER_EQUALS => Operator::GreaterOrEqual,
            operators::EQUALS => Operator::Equal,
            operators::NOT_EQUALS => Operator::NotEqual,
            _ => return None,
        })
    }

    /// For `constant op field`: the same said of the field.
    pub fn mirrored(self) -> Operator {
        match self {
            Operator::Less => Operator::Greater,
            Operator::LessOrEqual => Operator::GreaterOrEqual,
            Operator::Greater => Operator::Less,
            Operator::GreaterOrEqual => Operator::LessOrEqual,
            same => same,
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
        }
    }

    fn orders(self) -> bool {
        !matches!(self, Operator::Equal | Operator::NotEqual)
    }
}

impl Constant {
    /// A literal that can be compared natively.
    pub fn of(literal: &LiteralValue) -> Option<Constant> {
        Some(match literal {
            LiteralValue::Boolean(value) => Constant::Bool(*value.inner()),
            LiteralValue::Int(number) => Constant::Int(*number.inner()),
            LiteralValue::Double(number) => Constant::Double(*number.inner()),
            LiteralValue::String(text) => Constant::Text(text.inner().to_owned()),
            LiteralValue::Bytes(_) | LiteralValue::Null | LiteralValue::UInt(_) => return None,
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Constant::Int(_) | Constant::Double(_) => "a number",
            Constant::Bool(_) => "true or false",
            Constant::Text(_) => "a string",
        }
    }

    /// Why a field of this type is never compared so; nothing if it can be.
    pub fn misfit(&self, field_type: FieldType, operator: Operator) -> Option<String> {
        let fits = match field_type {
            FieldType::Double | FieldType::Int64 | FieldType::Timestamp => {
                matches!(self, Constant::Int(_) | Constant::Double(_))
            }
            FieldType::Bool => matches!(self, Constant::Bool(_)) && !operator.orders(),
            FieldType::String => matches!(self, Constant::Text(_)),
            // Whatever the JSON there is, the interpreter finds out.
            FieldType::Json => true,
        };
        (!fits).then(|| match operator.orders() && matches!(self, Constant::Bool(_)) {
            true => "true and false have no order: compare with == or !=".to_owned(),
            false => format!("its type is {}, it is compared with {}", field_type.as_str(), self.kind()),
        })
    }
}

/// Whether the comparison holds. NULL, INVALID and values of another type: it does not.
pub fn holds(value: &Cell<'_>, operator: Operator, constant: &Constant) -> bool {
    let order = match (value, constant) {
        (Cell::Double(value), Constant::Double(number)) => value.partial_cmp(number),
        (Cell::Double(value), Constant::Int(number)) => value.partial_cmp(&(*number as f64)),
        (Cell::Int(value), Constant::Int(number)) => Some(value.cmp(number)),
        (Cell::Int(value), Constant::Double(number)) => (*value as f64).partial_cmp(number),
        (Cell::Bool(value), Constant::Bool(other)) => Some(value.cmp(other)),
        (Cell::Str(value), Constant::Text(text)) => Some(value.as_ref().cmp(text)),
        _ => None,
    };
    order.is_some_and(|order| operator.holds(order))
}
