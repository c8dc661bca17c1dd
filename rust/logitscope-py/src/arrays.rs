//! The array door: `NumPy` arrays as the slices and views of the kernels, without copies.
//!
//! The `numpy` crate marks arrays as borrowed for as long as its guards live, so one array cannot be read
//! and written by the same call. That other Python code writes into an input meanwhile, it cannot see:
//! as with `NumPy` itself, the result is then whatever was read.

use crate::errors::{DTypeError, ShapeError};
use logitscope_kernels::{Heads, HeadsMut, Mask, Order, Rows};
use logitscope_simd::Element;
use numpy::{
    PyArrayDescrMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

/// An array that a call reads.
pub(crate) type Input<'py, T> = PyReadonlyArrayDyn<'py, T>;
/// An array that a call fills; in row-major order.
pub(crate) type Filled<'py, T> = PyReadwriteArrayDyn<'py, T>;

/// Element types of arrays that the kernels compute in.
pub(crate) trait ArrayElement: Element + numpy::Element {}
impl ArrayElement for f32 {}
impl ArrayElement for f64 {}

/// An argument that may be None.
pub(crate) fn optional<'py, A>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<A>>
where
    A: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    value.map(|value| value.extract::<A>().map_err(Into::into)).transpose()
}

/// The two element types, as a dtype names them.
#[derive(Clone, Copy)]
pub(crate) enum DType {
    F32,
    F64,
}

/// The element type of an array that comes from Python.
pub(crate) fn dtype(operation: &str, array: &Bound<'_, PyAny>) -> PyResult<DType> {
    let array = array.cast::<PyUntypedArray>().map_err(|_| {
        DTypeError::new_err(format!("{operation}: got {}; use a NumPy array", array.get_type()))
    })?;
    let descr = array.dtype();
    if descr.is_equiv_to(&numpy::dtype::<f32>(array.py())) {
        Ok(DType::F32)
    } else if descr.is_equiv_to(&numpy::dtype::<f64>(array.py())) {
        Ok(DType::F64)
    } else {
        Err(DTypeError::new_err(format!("{operation}: dtype is {descr}; use float32 or float64")))
    }
}

/// Calls a generic function with the element type of an array: `by_dtype!(op, x => f::<T>(...))`.
macro_rules! by_dtype {
    ($operation:expr, $array:expr => $function:ident($($argument:expr),* $(,)?)) => {
        match $crate::arrays::dtype($operation, $array)? {
            $crate::arrays::DType::F32 => $function::<f32>($($argument),*),
            $crate::arrays::DType::F64 => $function::<f64>($($argument),*),
        }
    };
}
pub(crate) use by_dtype;

/// The strides of an array in elements; an error when one is negative or no whole number of elements.
fn strides<T: numpy::Element>(name: &str, array: &Input<'_, T>) -> PyResult<Vec<usize>> {
    let size = size_of::<T>();
    array
        .strides()
        .iter()
        .map(|&stride| {
            usize::try_from(stride).ok().filter(|stride| stride % size == 0).map(|stride| stride / size)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            ShapeError::new_err(format!(
                "{name}: strides {:?}; use strides of whole elements, not negative",
                array.strides()
            ))
        })
}

/// All elements that an array with these strides reaches, as one slice.
fn reached<'a, T: numpy::Element>(
    name: &str,
    array: &'a Input<'_, T>,
    strides: &[usize],
) -> PyResult<&'a [T]> {
    if array.is_empty() {
        return Ok(&[]);
    }
    let last: usize = array.shape().iter().zip(strides).map(|(&n, stride)| (n - 1) * stride).sum();
    let data = array.as_array().as_ptr();
    if !data.is_aligned() {
        return Err(ShapeError::new_err(format!("{name}: its data is not aligned; use a copy of it")));
    }
    // SAFETY: no stride is negative, so the elements of the array lie between its first and the one
    // `last` further on, all in the one allocation that NumPy views; the pointer is aligned; the guard
    // keeps the array alive and registered as read while the slice lives.
    Ok(unsafe { std::slice::from_raw_parts(data, last + 1) })
}

fn shape<const N: usize, T: numpy::Element>(name: &str, array: &Input<'_, T>) -> PyResult<[usize; N]> {
    array
        .shape()
        .try_into()
        .map_err(|_| ShapeError::new_err(format!("{name}: shape {:?}; use {N} dimensions", array.shape())))
}

/// An array of shape (batch, heads, length, dim) whose last axis is contiguous.
pub(crate) fn heads<'a, T: ArrayElement>(name: &str, array: &'a Input<'_, T>) -> PyResult<Heads<'a, T>> {
    let shape: [usize; 4] = shape(name, array)?;
    let strides = strides(name, array)?;
    if !array.is_empty() && shape[3] > 1 && strides[3] != 1 {
        return Err(ShapeError::new_err(format!(
            "{name}: its last axis is not contiguous; use a copy of it"
        )));
    }
    Ok(Heads::new(reached(name, array, &strides)?, shape, [strides[0], strides[1], strides[2]]))
}

/// An array of shape (batch, heads, length), any strides.
pub(crate) fn rows<'a, T: ArrayElement>(name: &str, array: &'a Input<'_, T>) -> PyResult<Rows<'a, T>> {
    let shape: [usize; 3] = shape(name, array)?;
    let strides = strides(name, array)?;
    Ok(Rows::new(reached(name, array, &strides)?, shape, [strides[0], strides[1], strides[2]]))
}

/// An array of bytes of shape (batch, heads, queries, keys), any strides.
pub(crate) fn mask<'a>(name: &str, array: &'a Input<'_, u8>) -> PyResult<Mask<'a>> {
    let strides: [usize; 4] = strides(name, array)?
        .try_into()
        .map_err(|_| ShapeError::new_err(format!("{name}: shape {:?}; use 4 dimensions", array.shape())))?;
    Ok(Mask::new(reached(name, array, &strides)?, shape(name, array)?, strides))
}

/// The length of the last axis; 1 for an array without axes.
pub(crate) fn last_axis<T: numpy::Element>(array: &Input<'_, T>) -> usize {
    array.shape().last().copied().unwrap_or(1)
}

/// The elements of an array in row-major order.
pub(crate) fn contiguous<'a, T: numpy::Element>(name: &str, array: &'a Input<'_, T>) -> PyResult<&'a [T]> {
    match array.as_slice() {
        Ok(slice) if array.is_c_contiguous() => Ok(slice),
        _ => Err(ShapeError::new_err(format!("{name}: it is not contiguous; use a contiguous copy of it"))),
    }
}

/// The elements of an array to fill, which must have `len` of them in row-major order.
pub(crate) fn filled<'a, T: numpy::Element>(
    name: &str,
    array: &'a mut Filled<'_, T>,
    len: usize,
) -> PyResult<&'a mut [T]> {
    let shape = array.shape().to_vec();
    match array.as_slice_mut() {
        Ok(slice) if slice.len() == len => Ok(slice),
        _ => Err(ShapeError::new_err(format!(
            "{name}: shape {shape:?}; use a contiguous array of {len} elements"
        ))),
    }
}

/// An array to fill of shape (batch, heads, length, dim) that lies in memory in that order, or with heads and length
/// exchanged, without gaps.
pub(crate) fn filled_heads<'a, T: ArrayElement>(
    name: &str,
    array: &'a mut Filled<'_, T>,
    shape: [usize; 4],
) -> PyResult<HeadsMut<'a, T>> {
    let wrong = ShapeError::new_err(format!(
        "{name}: shape {:?}, strides {:?}; use a new array of shape {shape:?} in one of the two orders",
        array.shape(),
        array.strides()
    ));
    let [_, heads, length, dim] = shape;
    let size = size_of::<T>().cast_signed();
    let strides = |outer: usize, inner: usize| {
        let row = dim.cast_signed() * size;
        [(outer * inner).cast_signed() * row, inner.cast_signed() * row, row]
    };
    let [by_batch, by_head, by_position] = strides(heads, length);
    let [_, by_position_first, by_head_last] = strides(length, heads);
    let lies = |wanted: [isize; 4]| {
        shape.iter().zip(array.strides()).zip(wanted).all(|((&n, &got), wanted)| n <= 1 || got == wanted)
    };
    let order = if array.is_empty() || lies([by_batch, by_head, by_position, size]) {
        Order::HeadsFirst
    } else if lies([by_batch, by_head_last, by_position_first, size]) {
        Order::PositionsFirst
    } else {
        return Err(wrong);
    };
    match array.as_array_mut().into_slice_memory_order() {
        Some(data) if data.len() == shape.iter().product::<usize>() => Ok(HeadsMut::new(data, shape, order)),
        _ => Err(wrong),
    }
}
