//! A linear layer and the loss of its logits in one.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, matrix, optional};
use crate::call::run;
use crate::cross_entropy::{Filling, Options, TargetArray, Wanted};
use logitscope_kernels::Cancel;
use logitscope_kernels::cross_entropy::Statistics;
use logitscope_kernels::linear_cross_entropy::{self as kernel, Gradients, Output};
use pyo3::prelude::*;

/// What the loss is taken of, by name.
#[derive(FromPyObject)]
struct Problem<'py> {
    input: Bound<'py, PyAny>,
    weight: Bound<'py, PyAny>,
    bias: Option<Bound<'py, PyAny>>,
    targets: Bound<'py, PyAny>,
    class_weight: Option<Bound<'py, PyAny>>,
    options: Options<'py>,
    filter_eps: Option<f64>,
    /// How many rows of logits are in memory; none for a tile at a time.
    chunk: Option<usize>,
}

/// Gradients to fill, and what they are multiplied by, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct WantedGradients<'py> {
    input: Option<Bound<'py, PyAny>>,
    weight: Option<Bound<'py, PyAny>>,
    bias: Option<Bound<'py, PyAny>>,
    upstream: Option<Bound<'py, PyAny>>,
}

/// The arrays of a problem with their element type.
struct Arrays<'py, X: ArrayStored> {
    input: Input<'py, X>,
    weight: Input<'py, X>,
    bias: Option<Input<'py, X::Wide>>,
    targets: TargetArray<'py, X>,
    class_weight: Option<Input<'py, X::Wide>>,
}

impl<'py, X: ArrayStored> Arrays<'py, X> {
    fn of(problem: &Problem<'py>) -> PyResult<Self> {
        Ok(Self {
            input: problem.input.extract()?,
            weight: problem.weight.extract()?,
            bias: optional(problem.bias.as_ref())?,
            targets: TargetArray::of(&problem.targets)?,
            class_weight: optional(problem.class_weight.as_ref())?,
        })
    }

    fn for_kernel<'a>(
        &'a self,
        operation: &str,
        problem: &'a Problem<'py>,
    ) -> PyResult<kernel::Problem<'a, X>> {
        Ok(kernel::Problem {
            input: matrix("input", &self.input)?,
            weight: matrix("weight", &self.weight)?,
            bias: self.bias.as_ref().map(|x| contiguous("bias", x)).transpose()?,
            targets: self.targets.for_kernel(problem.options.ignore_index)?,
            class_weight: self.class_weight.as_ref().map(|x| contiguous("class_weight", x)).transpose()?,
            options: problem.options.for_kernel(operation)?,
            filter: problem.filter_eps,
        })
    }
}

/// Gradients with their element type.
struct FilledGradients<'py, X: ArrayStored> {
    input: Option<Filled<'py, X>>,
    weight: Option<Filled<'py, X>>,
    bias: Option<Filled<'py, X>>,
    upstream: Option<Input<'py, X::Wide>>,
}

impl<'py, X: ArrayStored> FilledGradients<'py, X> {
    fn of(wanted: &WantedGradients<'py>) -> PyResult<Self> {
        Ok(Self {
            input: optional(wanted.input.as_ref())?,
            weight: optional(wanted.weight.as_ref())?,
            bias: optional(wanted.bias.as_ref())?,
            upstream: optional(wanted.upstream.as_ref())?,
        })
    }

    fn for_kernel(&mut self, problem: &kernel::Problem<'_, X>) -> PyResult<Gradients<'_, X>> {
        let ((rows, classes), columns) = (problem.size(), problem.input.columns());
        let fill = |name, array, len| match array {
            Some(array) => filled(name, array, len).map(Some),
            None => Ok(None),
        };
        Ok(Gradients {
            input: fill("input", self.input.as_mut(), rows * columns)?,
            weight: fill("weight", self.weight.as_mut(), classes * columns)?,
            bias: fill("bias", self.bias.as_mut(), classes)?,
            upstream: self.upstream.as_ref().map(|x| contiguous("upstream", x)).transpose()?,
        })
    }
}

/// How many elementary steps a problem takes.
fn work<X: ArrayStored>(problem: &kernel::Problem<'_, X>) -> usize {
    let (rows, classes) = problem.size();
    rows.saturating_mul(classes).saturating_mul(problem.input.columns())
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn linear_cross_entropy<'py>(
    py: Python<'py>,
    operation: &str,
    problem: Problem<'py>,
    losses: &Bound<'py, PyAny>,
    gradients: Option<WantedGradients<'py>>,
    states: Option<&Bound<'py, PyAny>>,
    statistics: Option<Wanted<'py>>,
) -> PyResult<f64> {
    by_stored!(operation, &problem.input => loss_of(
        py, operation, &problem, losses, gradients.as_ref(), states, statistics.as_ref(),
    ))
}

fn loss_of<'py, X: ArrayStored>(
    py: Python<'py>,
    operation: &str,
    given: &Problem<'py>,
    losses: &Bound<'py, PyAny>,
    gradients: Option<&WantedGradients<'py>>,
    states: Option<&Bound<'py, PyAny>>,
    wanted: Option<&Wanted<'py>>,
) -> PyResult<f64> {
    let arrays = Arrays::<X>::of(given)?;
    let problem = arrays.for_kernel(operation, given)?;
    let (rows, _) = problem.size();
    let mut losses: Filled<'py, X::Wide> = losses.extract()?;
    let mut gradients = gradients.map(FilledGradients::<X>::of).transpose()?;
    let mut filling = wanted.map(Filling::of).transpose()?;
    let mut states: Option<Filled<'py, f64>> = optional(states)?;
    let output = Output {
        losses: filled("losses", &mut losses, rows)?,
        gradients: gradients.as_mut().map(|gradients| gradients.for_kernel(&problem)).transpose()?,
        statistics: match &mut filling {
            Some(filling) => filling.statistics(rows)?,
            None => Statistics::default(),
        },
    };
    let states = match &mut states {
        Some(states) => filled("states", states, 4 * rows)?.as_chunks_mut().0,
        None => &mut [],
    };
    let chunk = given.chunk;
    let compute = |cancel: &Cancel| match chunk {
        Some(chunk) => kernel::chunked(&problem, chunk, output, cancel),
        None => kernel::recompute(&problem, states, output, cancel),
    };
    run::<X, _>(py, "linear_cross_entropy", work(&problem), compute)
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn linear_cross_entropy_backward<'py>(
    py: Python<'py>,
    operation: &str,
    problem: Problem<'py>,
    states: &Bound<'py, PyAny>,
    gradients: WantedGradients<'py>,
) -> PyResult<()> {
    by_stored!(operation, &problem.input => gradients_of(py, operation, &problem, states, &gradients))
}

fn gradients_of<'py, X: ArrayStored>(
    py: Python<'py>,
    operation: &str,
    given: &Problem<'py>,
    states: &Bound<'py, PyAny>,
    gradients: &WantedGradients<'py>,
) -> PyResult<()> {
    let arrays = Arrays::<X>::of(given)?;
    let problem = arrays.for_kernel(operation, given)?;
    let states: Input<'py, f64> = states.extract()?;
    let states = contiguous("states", &states)?.as_chunks().0;
    let mut gradients = FilledGradients::<X>::of(gradients)?;
    let gradients = gradients.for_kernel(&problem)?;
    run::<X, _>(py, "linear_cross_entropy_backward", work(&problem), |cancel| {
        kernel::recompute_backward(&problem, states, gradients, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(linear_cross_entropy, module)?)?;
    module.add_function(wrap_pyfunction!(linear_cross_entropy_backward, module)?)
}
