//! What an attention call is asked to compute.

use super::bias::Bias;
use super::dropout::Dropout;
use super::masks::Masks;
use super::operand::Operand;
use crate::error::{Error, Result};
use crate::view::Rows;
use logitscope_simd::Element;

/// How the scores of a row become the weights of its values.
#[derive(Clone, Copy, Debug)]
pub enum Weighting<'a, T> {
    /// Softmax, with a sink for each query head or none: a score that every row of the head has beside those of its
    /// keys, without a value.
    Softmax(Option<&'a [T]>),
    /// Each key for itself: 1 / (1 + e^-(s + b)).
    Sigmoid(SigmoidBias<'a, T>),
}

/// What sigmoid weighting adds to every score.
#[derive(Clone, Copy, Debug)]
pub enum SigmoidBias<'a, T> {
    /// One number for each query head.
    Heads(&'a [T]),
    /// -ln n in a row that sees n keys.
    Visible,
}

/// The inputs of one attention call. `queries` may have more heads than `keys` and `values`: then each
/// key head serves the same number of consecutive query heads.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, T> {
    /// (batch, query heads, queries, `head_dim`).
    pub queries: Operand<'a, T>,
    /// (batch, key heads, keys, `head_dim`).
    pub keys: Operand<'a, T>,
    /// (batch, key heads, keys, value dim).
    pub values: Operand<'a, T>,
    /// What dot products are multiplied by.
    pub scale: T,
    /// A further factor for each query; None is 1.
    pub inv_temperature: Option<Rows<'a, T>>,
    /// Which keys a query sees.
    pub masks: Masks<'a>,
    /// Scores are bent to c tanh(s / c); 0 leaves them straight.
    pub softcap: T,
    /// Added to the scores; -inf hides a key from a query.
    pub bias: Option<Bias<'a, T>>,
    /// What the distance of positions is multiplied by and subtracted from the scores, for each query head.
    pub slopes: Option<&'a [T]>,
    /// From scores to weights.
    pub weighting: Weighting<'a, T>,
    /// Which weights are dropped, if any.
    pub dropout: Option<Dropout>,
}

impl<T: Element> Problem<'_, T> {
    /// Checks the shapes against each other.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the array that does not fit.
    pub fn check(&self) -> Result<()> {
        let [batch, heads, queries, dim] = self.queries.shape();
        let [key_batch, key_heads, keys, key_dim] = self.keys.shape();
        let [value_batch, value_heads, value_keys, value_dim] = self.values.shape();
        let wrong = |argument, got: [usize; 4], expected: String| {
            Err(Error::Shape { operation: "attention", argument, got: format!("{got:?}"), expected })
        };
        if key_batch != batch || key_dim != dim {
            let expected =
                format!("({batch}, key heads, keys, {dim}) as q has shape {:?}", self.queries.shape());
            return wrong("k", self.keys.shape(), expected);
        }
        if key_heads == 0 && heads > 0 || key_heads > 0 && heads % key_heads != 0 {
            let expected = format!("a number of heads that divides the {heads} heads of q");
            return wrong("k", self.keys.shape(), expected);
        }
        if [value_batch, value_heads, value_keys] != [batch, key_heads, keys] {
            let got = [value_batch, value_heads, value_keys, value_dim];
            return wrong("v", got, format!("({batch}, {key_heads}, {keys}, any) as k"));
        }
        let (sinks, sigmoid_bias) = match self.weighting {
            Weighting::Softmax(sinks) => (sinks, None),
            Weighting::Sigmoid(SigmoidBias::Heads(bias)) => (None, Some(bias)),
            Weighting::Sigmoid(SigmoidBias::Visible) => (None, None),
        };
        let of_heads = [("sinks", sinks), ("sigmoid_bias", sigmoid_bias), ("alibi_slopes", self.slopes)];
        for (argument, numbers) in of_heads {
            if let Some(numbers) = numbers.filter(|numbers| numbers.len() != heads) {
                let expected = format!("({heads}), one number for each head of q");
                let got = format!("({})", numbers.len());
                return Err(Error::Shape { operation: "attention", argument, got, expected });
            }
        }
        if let Some(bias) = self.bias.filter(|bias| bias.shape() != [batch, heads, queries, keys]) {
            return wrong("bias", bias.shape(), format!("{:?}", [batch, heads, queries, keys]));
        }
        if let Some(Dropout { rate, .. }) = self.dropout
            && !(0.0..1.0).contains(&rate)
        {
            let (got, expected) = (rate.to_string(), "0 or more, below 1".into());
            return Err(Error::Argument { operation: "attention", argument: "dropout_p", got, expected });
        }
        self.masks.check([batch, heads, queries, keys])
    }

    /// Query heads that share a key head.
    pub(super) fn group(&self) -> usize {
        self.queries.shape()[1] / self.keys.shape()[1].max(1)
    }

    /// `scale * inv_temperature` of one query.
    #[inline(always)]
    pub(super) fn factor(&self, batch: usize, head: usize, query: usize) -> T {
        match self.inv_temperature {
            Some(rows) => self.scale * rows.get(batch, head, query),
            None => self.scale,
        }
    }

    /// Whether the factors of all products are stored so that they can be multiplied in pairs.
    pub(super) fn has_pairs(&self) -> bool {
        self.queries.has_pairs() && self.keys.has_pairs() && self.values.has_pairs()
    }

    /// The sink of a query head, if there is one.
    #[inline(always)]
    pub(super) fn sink(&self, head: usize) -> Option<T> {
        match self.weighting {
            Weighting::Softmax(sinks) => sinks.map(|sinks| sinks[head]),
            Weighting::Sigmoid(_) => None,
        }
    }

    /// Whether a row's weights are divided by their sum.
    #[inline(always)]
    pub(super) fn is_normalised(&self) -> bool {
        matches!(self.weighting, Weighting::Softmax(_))
    }

    /// Elementary operations of a forward pass, to judge whether threads are worth it.
    pub fn work(&self) -> usize {
        let [batch, heads, queries, dim] = self.queries.shape();
        let [_, _, keys, value_dim] = self.values.shape();
        let all = batch.saturating_mul(heads).saturating_mul(queries).saturating_mul(keys);
        all.saturating_mul(dim + value_dim + 8)
    }
}
