//! Barriers that not all threads of a workgroup reach: undefined, and not found by naga.
//!
//! A value counts as uniform if it comes from constants, uniforms, read-only storage at a uniform place, the place of
//! the workgroup, and local variables that only ever get such values where all threads pass. This is stricter than
//! WGSL's own rules, so what passes here passes there.

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, FunctionArgument, Handle, LocalVariable,
    Module, Statement, StorageAccess, TypeInner,
};
use std::collections::HashSet;

/// Where a barrier may be missed by some threads: a function, and what is wrong there.
pub fn divergent_barriers(module: &Module) -> Vec<String> {
    let functions = module.functions.iter().map(|(_, function)| (function.name.clone(), function));
    let entries = module.entry_points.iter().map(|entry| (Some(entry.name.clone()), &entry.function));
    let mut found = Vec::new();
    for (name, function) in functions.chain(entries) {
        let mut walk = Walk::new(module, function, false);
        walk.check(&function.body, true);
        found.extend(
            walk.problems.into_iter().map(|problem| format!("{}: {problem}", name.as_deref().unwrap_or("?"))),
        );
    }
    found
}

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    /// Whether the arguments are taken to be the same for all threads.
    same_arguments: bool,
    divergent: HashSet<Handle<LocalVariable>>,
    /// Whether some threads have returned.
    returned: bool,
    problems: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module, function: &'a Function, same_arguments: bool) -> Self {
        let (divergent, problems) = (HashSet::new(), Vec::new());
        let mut walk = Self { module, function, same_arguments, divergent, returned: false, problems };
        while walk.spread_divergence(&function.body, true) {}
        walk
    }

    /// Whether a call gives all threads the same: its arguments do, and what becomes of them in the function.
    fn is_uniform_call(&self, result: Handle<Expression>) -> bool {
        let Some((function, arguments)) = call_of(&self.function.body, result) else {
            return false;
        };
        let callee = &self.module.functions[function];
        arguments.iter().all(|&argument| self.is_uniform(argument))
            && Walk::new(self.module, callee, true).returns_uniformly(&callee.body, true)
    }

    fn returns_uniformly(&self, block: &Block, uniform: bool) -> bool {
        block.iter().all(|statement| match statement {
            Statement::Return { value } => uniform && value.is_none_or(|value| self.is_uniform(value)),
            Statement::Block(inner) => self.returns_uniformly(inner, uniform),
            Statement::If { condition, accept, reject } => {
                let uniform = uniform && self.is_uniform(*condition);
                self.returns_uniformly(accept, uniform) && self.returns_uniformly(reject, uniform)
            }
            Statement::Switch { selector, cases } => {
                let uniform = uniform && self.is_uniform(*selector);
                cases.iter().all(|case| self.returns_uniformly(&case.body, uniform))
            }
            Statement::Loop { body, continuing, .. } => {
                let uniform = uniform && !self.leaves_divergently(body, true);
                self.returns_uniformly(body, uniform) && self.returns_uniformly(continuing, uniform)
            }
            _ => true,
        })
    }

    fn is_uniform(&self, expression: Handle<Expression>) -> bool {
        let all = |parts: &[Handle<Expression>]| parts.iter().all(|&part| self.is_uniform(part));
        match &self.function.expressions[expression] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_)
            | Expression::WorkGroupUniformLoadResult { .. } => true,
            Expression::CallResult(_) => self.is_uniform_call(expression),
            Expression::FunctionArgument(_) if self.same_arguments => true,
            Expression::FunctionArgument(index) => {
                is_uniform_builtin(self.function.arguments[*index as usize].binding.as_ref())
            }
            Expression::GlobalVariable(variable) => match self.module.global_variables[*variable].space {
                AddressSpace::Uniform => true,
                AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
                _ => false,
            },
            Expression::LocalVariable(variable) => !self.divergent.contains(variable),
            Expression::AccessIndex { base, index } => match &self.function.expressions[*base] {
                Expression::FunctionArgument(argument) => {
                    let argument = &self.function.arguments[*argument as usize];
                    self.is_uniform(*base) || is_uniform_builtin(self.member(argument, *index))
                }
                _ => self.is_uniform(*base),
            },
            Expression::Load { pointer: part }
            | Expression::Splat { value: part, .. }
            | Expression::Swizzle { vector: part, .. }
            | Expression::Unary { expr: part, .. }
            | Expression::As { expr: part, .. } => self.is_uniform(*part),
            Expression::Access { base, index } => all(&[*base, *index]),
            Expression::Compose { components, .. } => all(components),
            Expression::Binary { left, right, .. } => all(&[*left, *right]),
            Expression::Select { condition, accept, reject } => all(&[*condition, *accept, *reject]),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                [Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().all(|part| self.is_uniform(part))
            }
            _ => false,
        }
    }

    fn member(&self, argument: &FunctionArgument, index: u32) -> Option<&'a Binding> {
        match &self.module.types[argument.ty].inner {
            TypeInner::Struct { members, .. } => members[index as usize].binding.as_ref(),
            _ => None,
        }
    }

    fn root(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match &self.function.expressions[pointer] {
            Expression::LocalVariable(variable) => Some(*variable),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.root(*base),
            _ => None,
        }
    }

    /// Finds local variables that differ between threads; true if there were new ones.
    fn spread_divergence(&mut self, block: &Block, uniform: bool) -> bool {
        let mut grown = false;
        for statement in block {
            grown |= match statement {
                Statement::Store { pointer, value } => {
                    let same = uniform && self.is_uniform(*value) && self.is_uniform_place(*pointer);
                    !same && self.root(*pointer).is_some_and(|variable| self.divergent.insert(variable))
                }
                Statement::Call { arguments, .. } => {
                    // What a function writes through a pointer is not followed.
                    let roots: Vec<_> =
                        arguments.iter().filter_map(|&argument| self.root(argument)).collect();
                    roots.into_iter().filter(|&root| self.divergent.insert(root)).count() > 0
                }
                Statement::Block(inner) => self.spread_divergence(inner, uniform),
                Statement::If { condition, accept, reject } => {
                    let uniform = uniform && self.is_uniform(*condition);
                    self.spread_divergence(accept, uniform) | self.spread_divergence(reject, uniform)
                }
                Statement::Switch { selector, cases } => {
                    let uniform = uniform && self.is_uniform(*selector);
                    cases.iter().filter(|case| self.spread_divergence(&case.body, uniform)).count() > 0
                }
                Statement::Loop { body, continuing, break_if } => {
                    let stays = break_if.is_none_or(|condition| self.is_uniform(condition));
                    let uniform = uniform && stays && !self.leaves_divergently(body, true);
                    self.spread_divergence(body, uniform) | self.spread_divergence(continuing, uniform)
                }
                _ => false,
            };
        }
        grown
    }

    fn is_uniform_place(&self, pointer: Handle<Expression>) -> bool {
        match &self.function.expressions[pointer] {
            Expression::Access { base, index } => self.is_uniform(*index) && self.is_uniform_place(*base),
            Expression::AccessIndex { base, .. } => self.is_uniform_place(*base),
            _ => true,
        }
    }

    /// Whether some threads may leave the loop that a block is the body of, or go on with it, before others.
    fn leaves_divergently(&self, block: &Block, uniform: bool) -> bool {
        block.iter().any(|statement| match statement {
            Statement::Break | Statement::Continue | Statement::Return { .. } => !uniform,
            Statement::Block(inner) => self.leaves_divergently(inner, uniform),
            Statement::If { condition, accept, reject } => {
                let uniform = uniform && self.is_uniform(*condition);
                self.leaves_divergently(accept, uniform) || self.leaves_divergently(reject, uniform)
            }
            Statement::Switch { selector, cases } => {
                let uniform = uniform && self.is_uniform(*selector);
                cases.iter().any(|case| self.leaves_divergently(&case.body, uniform))
            }
            _ => false,
        })
    }

    /// Notes barriers that some threads may miss.
    fn check(&mut self, block: &Block, uniform: bool) {
        for statement in block {
            match statement {
                Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } => self.note(uniform),
                Statement::Call { function, .. }
                    if has_barrier(self.module, &self.module.functions[*function].body) =>
                {
                    self.note(uniform);
                }
                Statement::Return { .. } => self.returned |= !uniform,
                Statement::Block(inner) => self.check(inner, uniform),
                Statement::If { condition, accept, reject } => {
                    let uniform = uniform && self.is_uniform(*condition);
                    self.check(accept, uniform);
                    self.check(reject, uniform);
                }
                Statement::Switch { selector, cases } => {
                    let uniform = uniform && self.is_uniform(*selector);
                    for case in cases {
                        self.check(&case.body, uniform);
                    }
                }
                Statement::Loop { body, continuing, break_if } => {
                    let stays = break_if.is_none_or(|condition| self.is_uniform(condition));
                    let uniform = uniform && stays && !self.leaves_divergently(body, true);
                    // Twice: who has returned in one round is missing in the next.
                    for _ in 0..2 {
                        self.check(body, uniform);
                        self.check(continuing, uniform);
                    }
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, uniform: bool) {
        if !uniform {
            self.problems.push("a barrier under a condition that differs between threads".to_owned());
        } else if self.returned {
            self.problems.push("a barrier after some threads have returned".to_owned());
        }
    }
}

/// The function and the arguments of the call that gives a result.
fn call_of(block: &Block, wanted: Handle<Expression>) -> Option<(Handle<Function>, &[Handle<Expression>])> {
    block.iter().find_map(|statement| match statement {
        Statement::Call { function, arguments, result } if *result == Some(wanted) => {
            Some((*function, arguments.as_slice()))
        }
        Statement::Block(inner) => call_of(inner, wanted),
        Statement::If { accept, reject, .. } => call_of(accept, wanted).or_else(|| call_of(reject, wanted)),
        Statement::Switch { cases, .. } => cases.iter().find_map(|case| call_of(&case.body, wanted)),
        Statement::Loop { body, continuing, .. } => {
            call_of(body, wanted).or_else(|| call_of(continuing, wanted))
        }
        _ => None,
    })
}

fn is_uniform_builtin(binding: Option<&Binding>) -> bool {
    matches!(
        binding,
        Some(Binding::BuiltIn(
            BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups | BuiltIn::NumSubgroups | BuiltIn::SubgroupSize
        ))
    )
}

fn has_barrier(module: &Module, block: &Block) -> bool {
    block.iter().any(|statement| match statement {
        Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } => true,
        Statement::Call { function, .. } => has_barrier(module, &module.functions[*function].body),
        Statement::Block(inner) => has_barrier(module, inner),
        Statement::If { accept, reject, .. } => has_barrier(module, accept) || has_barrier(module, reject),
        Statement::Switch { cases, .. } => cases.iter().any(|case| has_barrier(module, &case.body)),
        Statement::Loop { body, continuing, .. } => {
            has_barrier(module, body) || has_barrier(module, continuing)
        }
        _ => false,
    })
}
