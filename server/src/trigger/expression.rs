//! A condition outside the fast path: one expression for the CEL interpreter, with the fields it names. Costs some
//! microseconds; whatever cannot be evaluated is false. Called by `rule`.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::{Context, Env, IdedExpr, Value};

use super::{Values, value};
use crate::definitions::View;
use crate::json::typed::Cell;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// One condition for the interpreter.
#[derive(Debug)]
pub struct Expression {
    tree: IdedExpr,
    /// Fields it names, by index into the view's.
    fields: Vec<usize>,
    /// A comparison that mentions no null: with a field that is NULL it is false, as on the fast path.
    needs_all: bool,
}

impl Expression {
    /// An expression whose names are all fields of the view. `compares`: it is a comparison.
    pub fn new(tree: &IdedExpr, view: &View, compares: bool) -> Expression {
        let mut fields = Vec::new();
        names(tree, &mut Vec::new(), &mut |name, _| {
            if let Ok(field) = view.field(name)
                && !fields.contains(&field)
            {
                fields.push(field);
            }
        });
        Expression { tree: tree.clone(), fields, needs_all: compares && !mentions_null(tree) }
    }

    /// Fields it names, by index into the view's.
    pub fn fields(&self) -> &[usize] {
        &self.fields
    }

    /// Whether it holds.
    pub fn holds<'p>(&self, view: &'p View, values: &impl Values<'p>) -> bool {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for field in &self.fields {
            let given = given(value(view, *field, values));
            if self.needs_all && given == Value::Null {
                return false;
            }
            context.add_variable_from_value(view.fields[*field].name.as_str(), given);
        }
        matches!(Value::resolve(&self.tree, &context), Ok(Value::Bool(true)))
    }
}

/// A field as the interpreter has it. INVALID is null.
fn given(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null | Cell::Invalid => Value::Null,
        Cell::Double(number) => Value::Float(number),
        Cell::Int(number) => Value::Int(number),
        Cell::Bool(value) => Value::Bool(value),
        Cell::Str(text) => Value::String(Arc::new(text.into_owned())),
        Cell::Json(text) => json(&text),
    }
}

fn json(text: &[u8]) -> Value {
    let parsed = serde_json::from_slice::<serde_json::Value>(text).ok();
    parsed.and_then(|value| cel::to_value(value).ok()).unwrap_or(Value::Null)
}

/// Every free name, with the number of the node that has it. `bound` are the names that comprehensions bind.
pub fn names(tree: &IdedExpr, bound: &mut Vec<String>, each: &mut impl FnMut(&str, u64)) {
    match &tree.expr {
        Expr::Ident(name) if !bound.iter().any(|known| known == name) => each(name, tree.id),
        Expr::Comprehension(inner) => {
            names(&inner.iter_range, bound, each);
            names(&inner.accu_init, bound, each);
            let before = bound.len();
            bound.extend([inner.iter_var.clone(), inner.accu_var.clone()]);
            bound.extend(inner.iter_var2.clone());
            for part in [&inner.loop_cond, &inner.loop_step, &inner.result] {
                names(part, bound, each);
            }
            bound.truncate(before);
        }
        _ => children(tree).into_iter().for_each(|child| names(child, bound, each)),
    }
}

/// Every function called, operators included, with the number of the node that has it.
pub fn calls(tree: &IdedExpr, each: &mut impl FnMut(&str, u64)) {
    if let Expr::Call(call) = &tree.expr {
        each(&call.func_name, tree.id);
    }
    children(tree).into_iter().for_each(|child| calls(child, each));
}

fn mentions_null(tree: &IdedExpr) -> bool {
    matches!(tree.expr, Expr::Literal(LiteralValue::Null)) || children(tree).into_iter().any(mentions_null)
}

fn children(tree: &IdedExpr) -> Vec<&IdedExpr> {
    match &tree.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Comprehension(inner) => {
            vec![&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result]
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
