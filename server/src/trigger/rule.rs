//! A rule's text, compiled: the boolean skeleton is ours, so that one condition that cannot be decided (a field that is
//! NULL, a type that does not fit) is false and no more; its conditions are compared natively where they are
//! `field op constant`, and left to the CEL interpreter otherwise. Compiled by `definitions` and the command line.

use cel::Env;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};

use super::compare::{self, Constant, Operator};
use super::expression::{self, Expression};
use super::{Values, value};
use crate::config::suggest::did_you_mean;
use crate::definitions::{FieldType, View};

/// A condition on the fields of a view.
#[derive(Debug)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    tree: Tree,
    expressions: usize,
}

/// What an evaluation cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Conditions that the CEL interpreter decided.
    pub interpreted: u64,
}

/// Why a text is no rule: where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at line {line}, column {column}: {message}")]
pub struct RuleError {
    /// 1 and up.
    pub line: usize,
    /// 1 and up, in bytes.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

#[derive(Debug)]
enum Tree {
    All(Box<Tree>, Box<Tree>),
    Any(Box<Tree>, Box<Tree>),
    Not(Box<Tree>),
    Compare { field: usize, operator: Operator, constant: Constant },
    Interpret(Expression),
}

/// Functions of the interpreter's standard library.
const FUNCTIONS: [&str; 17] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "max",
    "min",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "has",
    "optional",
];

impl Rule {
    /// Compiles a rule over the fields of a view.
    ///
    /// # Errors
    /// If it is not CEL, names what the view does not have, or can never hold because types do not fit.
    pub fn compile(text: &str, view: &View) -> Result<Rule, RuleError> {
        Self::compile_as(text, view, false)
    }

    /// As `compile`; `interpreted`: without the fast path. The two must say the same.
    pub(super) fn compile_as(text: &str, view: &View, interpreted: bool) -> Result<Rule, RuleError> {
        let parsed = Env::stdlib().compile(text).map_err(|errors| parse_error(text, &errors))?;
        let compiler = Compiler { text, source: parsed.source_info(), view, interpreted };
        compiler.check_names(parsed.expression())?;
        let tree = compiler.tree(parsed.expression())?;
        let expressions = tree.expressions();
        Ok(Rule { text: text.to_owned(), tree, expressions })
    }

    /// Whether it holds for a value of its view.
    pub fn holds<'p>(&self, view: &'p View, values: &impl Values<'p>, cost: &mut Cost) -> bool {
        self.tree.holds(view, values, cost)
    }

    /// Fields it looks at, by index into the view's; one may come several times.
    pub fn fields(&self) -> Vec<usize> {
        let mut fields = Vec::new();
        self.tree.fields(&mut fields);
        fields
    }

    /// Whether the interpreter is never asked.
    pub fn is_fast(&self) -> bool {
        self.expressions == 0
    }
}

impl Tree {
    fn holds<'p>(&self, view: &'p View, values: &impl Values<'p>, cost: &mut Cost) -> bool {
        match self {
            Tree::All(one, other) => one.holds(view, values, cost) && other.holds(view, values, cost),
            Tree::Any(one, other) => one.holds(view, values, cost) || other.holds(view, values, cost),
            Tree::Not(inner) => !inner.holds(view, values, cost),
            Tree::Compare { field, operator, constant } => {
                compare::holds(&value(view, *field, values), *operator, constant)
            }
            Tree::Interpret(expression) => {
                cost.interpreted += 1;
                expression.holds(view, values)
            }
        }
    }

    fn fields(&self, fields: &mut Vec<usize>) {
        match self {
            Tree::All(one, other) | Tree::Any(one, other) => {
                one.fields(fields);
                other.fields(fields);
            }
            Tree::Not(inner) => inner.fields(fields),
            Tree::Compare { field, .. } => fields.push(*field),
            Tree::Interpret(expression) => fields.extend(expression.fields()),
        }
    }

    fn expressions(&self) -> usize {
        match self {
            Tree::All(one, other) | Tree::Any(one, other) => one.expressions() + other.expressions(),
            Tree::Not(inner) => inner.expressions(),
            Tree::Compare { .. } => 0,
            Tree::Interpret(_) => 1,
        }
    }
}

struct Compiler<'c> {
    text: &'c str,
    source: &'c SourceInfo,
    view: &'c View,
    interpreted: bool,
}

impl Compiler<'_> {
    fn error(&self, id: u64, message: String) -> RuleError {
        let start = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before: String = self.text.chars().take(start).collect();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        RuleError { line, column: before.len() - line_start + 1, message }
    }

    fn check_names(&self, tree: &IdedExpr) -> Result<(), RuleError> {
        let mut found = None;
        expression::names(tree, &mut Vec::new(), &mut |name, id| {
            if let Err(unknown) = self.view.field(name) {
                found.get_or_insert((id, unknown.0));
            }
        });
        expression::calls(tree, &mut |name, id| {
            let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !is_operator && !FUNCTIONS.contains(&name) {
                let message = format!("no function \"{name}\"{}", did_you_mean(name, FUNCTIONS));
                found.get_or_insert((id, message));
            }
        });
        found.map_or(Ok(()), |(id, message)| Err(self.error(id, message)))
    }

    fn tree(&self, tree: &IdedExpr) -> Result<Tree, RuleError> {
        match &tree.expr {
            Expr::Call(call) => self.call(tree, call),
            Expr::Ident(name) => self.flag(tree, name),
            Expr::Literal(LiteralValue::Boolean(_)) | Expr::Comprehension(_) | Expr::Select(_) => {
                Ok(Tree::Interpret(Expression::new(tree, self.view, false)))
            }
            _ => Err(self.no_condition(tree)),
        }
    }

    fn no_condition(&self, tree: &IdedExpr) -> RuleError {
        let expected = "expected a condition, something that is true or false, such as \"snr_db < 30\"";
        self.error(tree.id, expected.to_owned())
    }

    fn call(&self, tree: &IdedExpr, call: &CallExpr) -> Result<Tree, RuleError> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [one, other]) => {
                Ok(Tree::All(Box::new(self.tree(one)?), Box::new(self.tree(other)?)))
            }
            (operators::LOGICAL_OR, [one, other]) => {
                Ok(Tree::Any(Box::new(self.tree(one)?), Box::new(self.tree(other)?)))
            }
            (operators::LOGICAL_NOT, [inner]) => Ok(Tree::Not(Box::new(self.tree(inner)?))),
            (
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE,
                _,
            ) => Err(self.no_condition(tree)),
            (name, args) => match Operator::named(name) {
                Some(operator) => self.comparison(tree, operator, args),
                None => Ok(Tree::Interpret(Expression::new(tree, self.view, false))),
            },
        }
    }

    fn comparison(&self, tree: &IdedExpr, operator: Operator, args: &[IdedExpr]) -> Result<Tree, RuleError> {
        let fast = match args {
            [one, other] => self.pair(one, other).map(|pair| (pair, operator)),
            _ => None,
        };
        let fast = fast.or_else(|| match args {
            [one, other] => self.pair(other, one).map(|pair| (pair, operator.mirrored())),
            _ => None,
        });
        let Some(((field, constant), operator)) = fast else {
            return Ok(Tree::Interpret(Expression::new(tree, self.view, true)));
        };
        self.compare(tree, field, operator, constant)
    }

    /// A field, then a constant.
    fn pair(&self, field: &IdedExpr, constant: &IdedExpr) -> Option<(usize, Constant)> {
        let (Expr::Ident(name), Expr::Literal(literal)) = (&field.expr, &constant.expr) else { return None };
        Some((self.view.field(name).ok()?, Constant::of(literal)?))
    }

    fn compare(
        &self,
        tree: &IdedExpr,
        field: usize,
        operator: Operator,
        constant: Constant,
    ) -> Result<Tree, RuleError> {
        let declared = &self.view.fields[field];
        if let Some(misfit) = constant.misfit(declared.field_type, operator) {
            return Err(self.error(tree.id, format!("field \"{}\": {misfit}", declared.name)));
        }
        if self.interpreted || declared.field_type == FieldType::Json {
            return Ok(Tree::Interpret(Expression::new(tree, self.view, true)));
        }
        Ok(Tree::Compare { field, operator, constant })
    }

    /// A field by itself: it is a condition if it is true or false.
    fn flag(&self, tree: &IdedExpr, name: &str) -> Result<Tree, RuleError> {
        let field = self.view.field(name).map_err(|unknown| self.error(tree.id, unknown.0))?;
        match self.view.fields[field].field_type {
            FieldType::Bool if !self.interpreted => {
                Ok(Tree::Compare { field, operator: Operator::Equal, constant: Constant::Bool(true) })
            }
            FieldType::Bool | FieldType::Json => Ok(Tree::Interpret(Expression::new(tree, self.view, false))),
            other => {
                let message = format!("field \"{name}\" is a {}: compare it with something", other.as_str());
                Err(self.error(tree.id, message))
            }
        }
    }
}

fn parse_error(text: &str, errors: &cel::ParseErrors) -> RuleError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let message = first.map_or_else(|| "it is not CEL".to_owned(), |error| error.msg.replace('\n', ", "));
    let at = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let message = if text.trim().is_empty() { "empty: write a condition".to_owned() } else { message };
    RuleError { line: at(line), column: at(column), message }
}
