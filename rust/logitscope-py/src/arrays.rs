//! The array door: `NumPy` arrays as the slices and views of the kernels, without copies.
//!
//! The `numpy` crate marks arrays as borrowed for as long as its guards live, so one array cannot be read
//! and written by the same call. That other Python code writes into an input meanwhile, it cannot see:
//! as with `NumPy` itself, the result is then whatever was read.

use crate::errors::{DTypeError, ShapeError};
use logitscope_kernels::{Heads, HeadsMut, Matrix, Order, Rows, Scores};
use logitscope_simd::{BF16, Element, F16, Stored};
use numpy::{
    PyArrayDescrMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::intern;
use pyo3::prelude::*;

/// What an array holds, as the kernels see it.
pub(crate) trait Item: Copy + Send + Sync + 'static {
    /// What `NumPy` hands out: the number itself, or the bits of one that it has no type for.
    type Raw: numpy::Element;

    /// The array as one of `Raw`.
    fn raw<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
    fn of_raw(raw: &[Self::Raw]) -> &[Self];
    fn of_raw_mut(raw: &mut [Self::Raw]) -> &mut [Self];
}

macro_rules! plain_item {
    ($($type:ty),+) => {$(
        impl Item for $type {
            type Raw = $type;

            fn raw<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                Ok(array.clone())
            }
            fn of_raw(raw: &[$type]) -> &[$type] {
                raw
            }
            fn of_raw_mut(raw: &mut [$type]) -> &mut [$type] {
                raw
            }
        }
    )+};
}
plain_item!(f32, f64, i64, u8, bool);

macro_rules! half_item {
    ($($type:ty),+) => {$(
        impl Item for $type {
            type Raw = u16;

            fn raw<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                array.call_method1(intern!(array.py(), "view"), (numpy::dtype::<u16>(array.py()),))
            }
            fn of_raw(raw: &[u16]) -> &[$type] {
                // SAFETY: the type is a transparent wrapper of u16, of which every value is valid.
                unsafe { std::slice::from_raw_parts(raw.as_ptr().cast(), raw.len()) }
            }
            fn of_raw_mut(raw: &mut [u16]) -> &mut [$type] {
                // SAFETY: as above, and the slice was borrowed for writing.
                unsafe { std::slice::from_raw_parts_mut(raw.as_mut_ptr().cast(), raw.len()) }
            }
        }
    )+};
}
half_item!(F16, BF16);

/// An array that a call reads.
pub(crate) struct Input<'py, X: Item>(PyReadonlyArrayDyn<'py, X::Raw>);
/// An array that a call fills; in row-major order.
pub(crate) struct Filled<'py, X: Item>(PyReadwriteArrayDyn<'py, X::Raw>);

impl<'py, X: Item> FromPyObject<'_, 'py> for Input<'py, X> {
    type Error = PyErr;

    fn extract(array: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(X::raw(&array)?.extract()?))
    }
}

impl<'py, X: Item> FromPyObject<'_, 'py> for Filled<'py, X> {
    type Error = PyErr;

    fn extract(array: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(X::raw(&array)?.extract()?))
    }
}

impl<X: Item> Input<'_, X> {
    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }
}

impl<X: Item> Filled<'_, X> {
    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }
}

/// Numbers that the kernels compute with.
pub(crate) trait ArrayElement: Element + Item {}
impl ArrayElement for f32 {}
impl ArrayElement for f64 {}

/// Numbers that arrays of rows hold.
pub(crate) trait ArrayStored: Stored<Wide: ArrayElement> + Item {}
impl<X: Stored<Wide: ArrayElement> + Item> ArrayStored for X {}

/// An argument that may be None.
pub(crate) fn optional<'py, A>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<A>>
where
    A: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    value.map(|value| value.extract::<A>().map_err(Into::into)).transpose()
}

/// The types of numbers, as a dtype names them.
#[derive(Clone, Copy)]
pub(crate) enum DType {
    F16,
    BF16,
    F32,
    F64,
}

/// The type of the numbers of an array that comes from Python.
pub(crate) fn dtype(operation: &str, array: &Bound<'_, PyAny>) -> PyResult<DType> {
    let array = array.cast::<PyUntypedArray>().map_err(|_| {
        DTypeError::new_err(format!("{operation}: got {}; use a NumPy array", array.get_type()))
    })?;
    let (py, descr) = (array.py(), array.dtype());
    if descr.is_equiv_to(&numpy::dtype::<f32>(py)) {
        return Ok(DType::F32);
    }
    if descr.is_equiv_to(&numpy::dtype::<f64>(py)) {
        return Ok(DType::F64);
    }
    // NumPy has no type for the one, and none that Rust knows for the other.
    if descr.names().is_some_and(|names| names == ["bfloat16"]) {
        return Ok(DType::BF16);
    }
    if descr.kind() == b'f' && descr.itemsize() == 2 {
        return Ok(DType::F16);
    }
    Err(DTypeError::new_err(format!("{operation}: dtype is {descr}; use float32 or float64")))
}

/// Calls a generic function with the type of an array's numbers, of those that kernels compute with:
/// `by_dtype!(op, x => f::<T>(...))`.
macro_rules! by_dtype {
    ($operation:expr, $array:expr => $function:ident($($argument:expr),* $(,)?)) => {
        match $crate::arrays::dtype($operation, $array)? {
            $crate::arrays::DType::F32 => $function::<f32>($($argument),*),
            $crate::arrays::DType::F64 => $function::<f64>($($argument),*),
            _ => Err($crate::errors::DTypeError::new_err(
                format!("{}: dtype is a 16-bit one; use float32 or float64", $operation)
            )),
        }
    };
}
pub(crate) use by_dtype;

/// As [`by_dtype`], with all types that arrays of rows hold.
macro_rules! by_stored {
    ($operation:expr, $array:expr => $function:ident($($argument:expr),* $(,)?)) => {
        match $crate::arrays::dtype($operation, $array)? {
            $crate::arrays::DType::F16 => $function::<logitscope_simd::F16>($($argument),*),
            $crate::arrays::DType::BF16 => $function::<logitscope_simd::BF16>($($argument),*),
            $crate::arrays::DType::F32 => $function::<f32>($($argument),*),
            $crate::arrays::DType::F64 => $function::<f64>($($argument),*),
        }
    };
}
pub(crate) use by_stored;

/// The strides of an array in elements; an error when one is negative or no whole number of elements.
fn strides<X: Item>(name: &str, array: &Input<'_, X>) -> PyResult<Vec<usize>> {
    let size = size_of::<X>();
    array
        .0
        .strides()
        .iter()
        .map(|&stride| {
            usize::try_from(stride).ok().filter(|stride| stride % size == 0).map(|stride| stride / size)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            ShapeError::new_err(format!(
                "{name}: strides {:?}; use strides of whole elements, not negative",
                array.0.strides()
            ))
        })
}

/// All elements that an array with these strides reaches, as one slice.
fn reached<'a, X: Item>(name: &str, array: &'a Input<'_, X>, strides: &[usize]) -> PyResult<&'a [X]> {
    let array = &array.0;
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
    Ok(X::of_raw(unsafe { std::slice::from_raw_parts(data, last + 1) }))
}

fn shape<const N: usize, X: Item>(name: &str, array: &Input<'_, X>) -> PyResult<[usize; N]> {
    array
        .0
        .shape()
        .try_into()
        .map_err(|_| ShapeError::new_err(format!("{name}: shape {:?}; use {N} dimensions", array.shape())))
}

/// An array of shape (batch, heads, length, dim) whose last axis is contiguous.
pub(crate) fn heads<'a, X: Item>(name: &str, array: &'a Input<'_, X>) -> PyResult<Heads<'a, X>> {
    let shape: [usize; 4] = shape(name, array)?;
    let strides = strides(name, array)?;
    if !array.0.is_empty() && shape[3] > 1 && strides[3] != 1 {
        return Err(ShapeError::new_err(format!(
            "{name}: its last axis is not contiguous; use a copy of it"
        )));
    }
    Ok(Heads::new(reached(name, array, &strides)?, shape, [strides[0], strides[1], strides[2]]))
}

/// An array of shape (rows, columns) whose last axis is contiguous.
pub(crate) fn matrix<'a, X: Item>(name: &str, array: &'a Input<'_, X>) -> PyResult<Matrix<'a, X>> {
    let [rows, columns]: [usize; 2] = shape(name, array)?;
    let strides = strides(name, array)?;
    if !array.0.is_empty() && columns > 1 && strides[1] != 1 {
        return Err(ShapeError::new_err(format!(
            "{name}: its last axis is not contiguous; use a copy of it"
        )));
    }
    Ok(Matrix::new(reached(name, array, &strides)?, rows, columns, strides[0]))
}

/// An array of shape (batch, heads, length), any strides.
pub(crate) fn rows<'a, T: ArrayElement>(name: &str, array: &'a Input<'_, T>) -> PyResult<Rows<'a, T>> {
    let shape: [usize; 3] = shape(name, array)?;
    let strides = strides(name, array)?;
    Ok(Rows::new(reached(name, array, &strides)?, shape, [strides[0], strides[1], strides[2]]))
}

/// An array of shape (batch, heads, queries, keys), any strides.
pub(crate) fn scores<'a, X: Item>(name: &str, array: &'a Input<'_, X>) -> PyResult<Scores<'a, X>> {
    let strides: [usize; 4] = strides(name, array)?
        .try_into()
        .map_err(|_| ShapeError::new_err(format!("{name}: shape {:?}; use 4 dimensions", array.shape())))?;
    Ok(Scores::new(reached(name, array, &strides)?, shape(name, array)?, strides))
}

/// The length of the last axis; 1 for an array without axes.
pub(crate) fn last_axis<X: Item>(array: &Input<'_, X>) -> usize {
    array.shape().last().copied().unwrap_or(1)
}

/// The elements of an array in row-major order.
pub(crate) fn contiguous<'a, X: Item>(name: &str, array: &'a Input<'_, X>) -> PyResult<&'a [X]> {
    match array.0.as_slice() {
        Ok(slice) if array.0.is_c_contiguous() => Ok(X::of_raw(slice)),
        _ => Err(ShapeError::new_err(format!("{name}: it is not contiguous; use a contiguous copy of it"))),
    }
}

/// The elements of an array to fill, which must have `len` of them in row-major order.
pub(crate) fn filled<'a, X: Item>(
    name: &str,
    array: &'a mut Filled<'_, X>,
    len: usize,
) -> PyResult<&'a mut [X]> {
    let shape = array.shape().to_vec();
    match array.0.as_slice_mut() {
        Ok(slice) if slice.len() == len => Ok(X::of_raw_mut(slice)),
        _ => Err(ShapeError::new_err(format!(
            "{name}: shape {shape:?}; use a contiguous array of {len} elements"
        ))),
    }
}

/// An array to fill of shape (batch, heads, length, dim) that lies in memory in that order, or with heads and length
/// exchanged, without gaps.
pub(crate) fn filled_heads<'a, X: Item>(
    name: &str,
    array: &'a mut Filled<'_, X>,
    shape: [usize; 4],
) -> PyResult<HeadsMut<'a, X>> {
    let array = &mut array.0;
    let wrong = ShapeError::new_err(format!(
        "{name}: shape {:?}, strides {:?}; use a new array of shape {shape:?} in one of the two orders",
        array.shape(),
        array.strides()
    ));
    let [_, heads, length, dim] = shape;
    let size = size_of::<X>().cast_signed();
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
        Some(data) if data.len() == shape.iter().product::<usize>() => {
            Ok(HeadsMut::new(X::of_raw_mut(data), shape, order))
        }
        _ => Err(wrong),
    }
}
