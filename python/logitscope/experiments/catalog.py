"""The fifty papers that this project is about, as data; each has a specification, some are built."""

from __future__ import annotations

from logitscope.experiments.paper import Paper

PAPERS: tuple[Paper, ...] = (
    Paper(
        "two-pass-softmax",
        "The Two-Pass Softmax Algorithm",
        "Marat Dukhan, Artsiom Ablavatski",
        2020,
        "2001.04438",
        "softmax",
        "Softmax over rows longer than the cache is faster when no pass looks for the maximum first: "
        "two reads and a write in place of three and one.",
    ),
    Paper(
        "z-loss",
        "The Z-loss: a shift and scale invariant classification loss belonging to the Spherical Family",
        "Alexandre de Brébisson, Pascal Vincent",
        2016,
        "1604.08859",
        "losses",
        "A loss of the standardised logit trains an output layer in time independent of the number of "
        "classes, and beats softmax at top-k for larger k.",
    ),
    Paper(
        "comp-sum-losses",
        "Cross-Entropy Loss Functions: Theoretical Analysis and Applications",
        "Anqi Mao, Mehryar Mohri, Yutao Zhong",
        2023,
        "2304.07288",
        "losses",
        "One parameter joins cross entropy, generalised cross entropy and the mean absolute error; "
        "each has a bound on the zero-one error that it is consistent with, and a smooth adversarial "
        "form.",
    ),
    Paper(
        "grokking-stability",
        "Grokking at the Edge of Numerical Stability",
        "Lucas Prieto, Melih Barsbey, Pedro Mediano, Tolga Birdal",
        2025,
        "2501.04697",
        "losses",
        "Without regularisation the logits grow until the softmax absorbs the other classes in "
        "rounding and learning stops; StableMax and the gradient perpendicular to the weights let "
        "grokking happen.",
    ),
    Paper(
        "utility-probability",
        "Utility-Probability Duality of Neural Networks",
        "Huang Bojun, Fei Yuan",
        2023,
        "2305.14859",
        "losses",
        "The scores of a network trained by maximum likelihood are better read as an order of "
        "utilities than as probabilities; mapping them back improves the decision rules that need "
        "probabilities.",
    ),
    Paper(
        "attention-as-svm",
        "Transformers as Support Vector Machines",
        "Davoud Ataee Tarzanagh, Yingcong Li, Christos Thrampoulidis, Samet Oymak",
        2023,
        "2308.16898",
        "attention",
        "Training the key-query weights of one attention layer makes their direction converge to a "
        "hard-margin support vector machine that separates the best token from the others.",
    ),
    Paper(
        "dynamical-systems-framework",
        "Understanding the differences in Foundation Models: Attention, State Space Models, and "
        "Recurrent Neural Networks",
        "Jerome Sieber, Carmen Amo Alonso, Alexandre Didier, Melanie N. Zeilinger, Antonio Orvieto",
        2024,
        "2405.15731",
        "attention",
        "Attention, linear attention, state space models and gated recurrences are one linear time- "
        "varying recurrence; normalising linear attention as softmax does makes it better.",
    ),
    Paper(
        "entropy-guided-attention",
        "Entropy-Guided Attention for Private LLMs",
        "Nandan Kumar Jha, Brandon Reagen",
        2025,
        "2501.03489",
        "attention",
        "Per-head entropy shows the failures of transformers without nonlinearities; scaled linear "
        "networks cure its collapse, and a regulariser with learnable thresholds its overload.",
    ),
    Paper(
        "selective-attention",
        "Selective Attention: Enhancing Transformer through Principled Context Control",
        "Xuechen Zhang, Xiangyu Chang, Mingchen Li, Amit Roy-Chowdhury, Jiasi Chen, Samet Oymak",
        2024,
        "2411.12892",
        "attention",
        "One learned inverse temperature a query and one gate a value, from token and position, lower "
        "the loss of attention at less than half a percent more parameters.",
    ),
    Paper(
        "sigmoid-attention",
        "Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
        "Jason Ramapuram, Federico Danieli, Eeshan Dhekane, Floris Weers, Dan Busbridge, Pierre "
        "Ablin, Tatiana Likhomanenko, Jagrit Digani, Zijin Gu, Amitis Shidani, Russ Webb",
        2024,
        "2409.04431",
        "attention",
        "Attention with a sigmoid in place of the softmax trains as well when its bias is minus the "
        "logarithm of the length; without that bias its outputs are far too large at the start.",
    ),
    Paper(
        "polycom",
        "Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models",
        "Zhijian Zhuo, Ya Wang, Yutao Zeng, Xiaoqing Li, Xun Zhou, Jinwen Ma",
        2024,
        "2411.03884",
        "layers",
        "Trainable polynomials of ReLU, or of normalised powers, in place of GELU or SwiGLU "
        "approximate better and reach a lower loss at the same number of parameters.",
    ),
    Paper(
        "snnk",
        "Scalable Neural Network Kernels",
        "Arijit Sehanobish, Krzysztof Choromanski, Yunfan Zhao, Avinava Dubey, Valerii Likhosherstov",
        2023,
        "2310.13225",
        "layers",
        "A layer is a kernel of its input and its parameters; random features of it need fewer "
        "parameters, and layers in a row can be bundled into one that is solved in closed form.",
    ),
    Paper(
        "temperature-moe",
        "Is Temperature Sample Efficient for Softmax Gaussian Mixture of Experts?",
        "Huy Nguyen, Pedram Akbarian, Nhat Ho",
        2024,
        "2401.13875",
        "experts",
        "The temperature of a softmax gate with linear scores cannot be learned at a polynomial rate; "
        "an activation before the softmax makes it learnable.",
    ),
    Paper(
        "topk-softmax-moe",
        "Statistical Perspective of Top-K Sparse Softmax Gating Mixture of Experts",
        "Huy Nguyen, Pedram Akbarian, Fanqi Yan, Nhat Ho",
        2023,
        "2309.13850",
        "experts",
        "A top-K gate with too many experts still learns the density at the parametric rate if enough "
        "experts are chosen, while the parameters of over-covered experts converge much more slowly.",
    ),
    Paper(
        "adadagrad",
        "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods",
        "Tim Tsz-Kit Lau, Han Liu, Mladen Kolar",
        2024,
        "2402.11215",
        "optimization",
        "Growing the batch whenever a test finds the gradient too noisy works with AdaGrad and "
        "removes a schedule that is tuned by hand.",
    ),
    Paper(
        "bilevel-unbounded-smoothness",
        "Bilevel Optimization under Unbounded Smoothness: A New Algorithm and Convergence Analysis",
        "Jie Hao, Xiaochuan Gong, Mingrui Liu",
        2024,
        "2401.09587",
        "optimization",
        "Normalised momentum above and a well-solved problem below, refreshed now and then, solve "
        "bilevel problems whose curvature grows with the gradient.",
    ),
    Paper(
        "convex-relu-training",
        "Efficient Global Optimization of Two-layer ReLU Networks: Quadratic-time Algorithms and "
        "Adversarial Training",
        "Yatong Bai, Tanmay Gautam, Somayeh Sojoudi",
        2022,
        "2201.01965",
        "optimization",
        "Two-layer ReLU networks are trained to their global optimum, adversarially too, as convex "
        "programs over sampled activation patterns, at a quadratic cost an iteration.",
    ),
    Paper(
        "exact-augmented-lagrangian",
        "Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching",
        "Ilgee Hong, Sen Na, Michael W. Mahoney, Mladen Kolar",
        2023,
        "2305.18379",
        "optimization",
        "Newton steps from a randomised sketch solver, accepted on an exact augmented Lagrangian, "
        "converge from anywhere and at a linear rate near the solution.",
    ),
    Paper(
        "lamb",
        "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
        "Yang You, Jing Li, Sashank Reddi, Jonathan Hseu, Sanjiv Kumar, Srinadh Bhojanapalli, Xiaodan "
        "Song, James Demmel, Kurt Keutzer, Cho-Jui Hsieh",
        2019,
        "1904.00962",
        "optimization",
        "Making each layer's step a fixed share of its weight norm keeps Adam stable at very large "
        "batches: one setting serves batches from 512 to 32768.",
    ),
    Paper(
        "neur2ro",
        "Neur2RO: Neural Two-Stage Robust Optimization",
        "Justin Dumouchelle, Esther Julien, Jannis Kurtz, Elias B. Khalil",
        2023,
        "2310.04345",
        "optimization",
        "A small network that has learned the value of the second stage solves two-stage robust "
        "problems much faster than exact methods, at about their quality.",
    ),
    Paper(
        "optimistic-mirror-descent",
        "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex Optimization",
        "Sijia Chen, Yu-Jie Zhang, Wei-Wei Tu, Peng Zhao, Lijun Zhang",
        2023,
        "2302.04552",
        "optimization",
        "One optimistic algorithm has a regret that scales with the noise and the drift that there "
        "really are, for convex, strongly convex and exp-concave losses.",
    ),
    Paper(
        "self-tuning-networks",
        "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response "
        "Functions",
        "Matthew MacKay, Paul Vicol, Jonathan Lorraine, David Duvenaud, Roger Grosse",
        2019,
        "1903.03088",
        "optimization",
        "Layers that model their best response to regularisation strengths tune these inside one "
        "training run, and find schedules that beat fixed values.",
    ),
    Paper(
        "batch-size-learning-rate",
        "Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach to Neural "
        "Network Training",
        "Diego Granziol, Stefan Zohren, Stephen Roberts",
        2020,
        "2006.09092",
        "dynamics",
        "The largest stable learning rate grows linearly with the batch size for SGD, then saturates, "
        "and like its square root for adaptive methods; random matrices predict where.",
    ),
    Paper(
        "self-distillation",
        "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by "
        "Self-Distillation",
        "Kenneth Borup, Lars N. Andersen",
        2021,
        "2102.13088",
        "dynamics",
        "Mixing the true targets back in dampens the regularisation of self-distillation; for kernel "
        "ridge regression each step, its limit and the best mixture have closed forms.",
    ),
    Paper(
        "deep-learning-theory",
        "The Principles of Deep Learning Theory",
        "Daniel A. Roberts, Sho Yaida, Boris Hanin",
        2021,
        "2106.10165",
        "width",
        "Depth over width sets how far a network is from Gaussian; initial variances at criticality "
        "stop signals and gradients from exploding or vanishing.",
    ),
    Paper(
        "more-is-better-rf",
        "More is Better in Modern Machine Learning: when Infinite Overparameterization is Optimal and "
        "Overfitting is Obligatory",
        "James B. Simon, Dhruva Karkada, Nikhil Ghosh, Mikhail Belkin",
        2023,
        "2311.14646",
        "width",
        "With the ridge tuned, more features and more samples never hurt random-feature regression, "
        "and on powerlaw tasks the best fit must overfit.",
    ),
    Paper(
        "neural-tangent-kernel",
        "Neural Tangent Kernel: Convergence and Generalization in Neural Networks",
        "Arthur Jacot, Franck Gabriel, Clément Hongler",
        2018,
        "1806.07572",
        "width",
        "Wide networks follow a kernel that is set by their architecture and stays constant in "
        "training; components of the target are learnt at the rates of its eigenvalues.",
    ),
    Paper(
        "wide-deep-optimality",
        "Wide and Deep Neural Networks Achieve Optimality for Classification",
        "Adityanarayanan Radhakrishnan, Mikhail Belkin, Caroline Uhler",
        2022,
        "2204.14126",
        "width",
        "Infinitely wide and deep networks are one of three classifiers, decided by two Gaussian "
        "averages of the activation; simple activations make them Bayes-consistent.",
    ),
    Paper(
        "accuracy-disparity",
        "Understanding the Impact of Adversarial Robustness on Accuracy Disparity",
        "Yuzheng Hu, Fan Wu, Hongyang Zhang, Han Zhao",
        2022,
        "2211.15762",
        "robustness",
        "Adversarial training widens the gap between the classes' accuracies in two ways, by its "
        "direction and by imbalance; with heavy tails it may give up the smaller class.",
    ),
    Paper(
        "adversarial-logit-statistics",
        "Intriguing Properties of Adversarial Examples",
        "Ekin D. Cubuk, Barret Zoph, Samuel S. Schoenholz, Quoc V. Le",
        2017,
        "1711.02846",
        "robustness",
        "The share of inputs whose class flips under a perturbation grows like a power of its size "
        "with an exponent near one, whatever the network: a matter of the gaps between logits.",
    ),
    Paper(
        "boundary-tilting",
        "A Boundary Tilting Perspective on the Phenomenon of Adversarial Examples",
        "Thomas Tanay, Lewis Griffin",
        2016,
        "1608.07690",
        "robustness",
        "Adversarial examples are strong where the boundary is tilted towards the data along "
        "directions in which data barely vary; regularisation untilts it.",
    ),
    Paper(
        "ibp-tightness",
        "Understanding Certified Training with Interval Bound Propagation",
        "Yuhao Mao, Mark Niklas Mueller, Marc Fischer, Martin Vechev",
        2024,
        "2306.10426",
        "certification",
        "Interval bounds get loose with width and exponentially with depth; training with them makes "
        "them tight, which regularises strongly and explains the cost in accuracy.",
    ),
    Paper(
        "lipsdp-quadratic-constraints",
        "Novel Quadratic Constraints for Extending LipSDP beyond Slope-Restricted Activations",
        "Patricia Pauli, Aaron Havens, Alexandre Araujo, Siddharth Garg, Farshad Khorrami, Frank "
        "Allgoewer, Bin Hu",
        2024,
        "2401.14033",
        "certification",
        "Quadratic constraints for GroupSort, MaxMin and Householder activations make semidefinite "
        "Lipschitz bounds tighter than rewriting them as ReLU networks does.",
    ),
    Paper(
        "local-lipschitz",
        "Efficiently Computing Local Lipschitz Constants of Neural Networks via Bound Propagation",
        "Zhouxing Shi, Yihan Wang, Huan Zhang, J. Zico Kolter, Cho-Jui Hsieh",
        2022,
        "2210.07394",
        "certification",
        "Linear bounds propagated through the gradient's graph certify local Lipschitz constants that "
        "are much tighter than those of earlier methods of that speed.",
    ),
    Paper(
        "hawq-v2",
        "HAWQ-V2: Hessian Aware trace-Weighted Quantization of Neural Networks",
        "Zhen Dong, Zhewei Yao, Daiyaan Arfeen, Amir Gholami, Michael W. Mahoney, Kurt Keutzer",
        2020,
        "1911.03852",
        "compression",
        "The average Hessian trace of a layer times its quantisation error ranks layers well enough "
        "to choose bit widths automatically.",
    ),
    Paper(
        "interlayer-hessian-ptq",
        "Augmenting Hessians with Inter-Layer Dependencies for Mixed-Precision Post-Training Quantization",
        "Clemens JS Schaefer, Navid Lambert-Shirzad, Xiaofan Zhang, Chiachen Chou, Tom Jablin, Jian "
        "Li, Elfie Guo, Caitlin Stanton, Siddharth Joshi, Yu Emma Wang",
        2023,
        "2306.04879",
        "compression",
        "Adding how the errors of layers interact to the Hessian finds mixed-precision settings with "
        "lower latency at the same accuracy, without fine-tuning.",
    ),
    Paper(
        "iss-p",
        "Iterative Soft Shrinkage Learning for Efficient Image Super-Resolution",
        "Jiamian Wang, Huan Wang, Yulun Zhang, Yun Fu, Zhiqiang Tao",
        2023,
        "2303.09650",
        "compression",
        "Shrinking the smallest weights a little at every step in place of zeroing them prunes "
        "networks from a random start with better results.",
    ),
    Paper(
        "llm-fp4",
        "LLM-FP4: 4-Bit Floating-Point Quantized Transformers",
        "Shih-yang Liu, Zechun Liu, Xijie Huang, Pingcheng Dong, Kwang-Ting Cheng",
        2023,
        "2310.16836",
        "compression",
        "Four-bit floating point with searched formats, and activation biases of each channel moved "
        "into the weights, quantises transformers at a small loss of accuracy.",
    ),
    Paper(
        "pv-tuning",
        "PV-Tuning: Beyond Straight-Through Estimation for Extreme LLM Compression",
        "Vladimir Malinovskii, Denis Mazur, Ivan Ilin, Denis Kuznedelev, Konstantin Burlachenko, Kai "
        "Yi, Dan Alistarh, Peter Richtarik",
        2024,
        "2405.14852",
        "compression",
        "Alternating between values and codes fine-tunes models of one to two bits a weight better "
        "than straight-through estimation.",
    ),
    Paper(
        "cauchy-schwarz-ib",
        "Cauchy-Schwarz Divergence Information Bottleneck for Regression",
        "Shujian Yu, Xi Yu, Sigurd Løkse, Robert Jenssen, Jose C. Principe",
        2024,
        "2404.17951",
        "representation",
        "An information bottleneck of Cauchy-Schwarz divergences in closed form gives regression that "
        "generalises better and is more robust than mean squared error.",
    ),
    Paper(
        "frechet-cumulative-covariance",
        "Fréchet Cumulative Covariance Net for Deep Nonlinear Sufficient Dimension Reduction with "
        "Random Objects",
        "Hang Yuan, Christina Dan Wang, Zhou Yu",
        2025,
        "2502.15374",
        "representation",
        "A dependence that needs only distances between responses trains networks that reduce "
        "dimension for distributions, spheres and matrices, and shrugs off outliers.",
    ),
    Paper(
        "information-compression",
        "Adaptive Estimators Show Information Compression in Deep Neural Networks",
        "Ivan Chelombiev, Conor J. Houghton, Cian O'Donnell",
        2019,
        "1902.09037",
        "representation",
        "With estimators that adapt to the activations, ReLU networks compress too; L2 regularisation "
        "increases it, and compression of the last layer goes with generalisation.",
    ),
    Paper(
        "representational-geometry",
        "Task structure and nonlinearity jointly determine learned representational geometry",
        "Matteo Alleman, Jack W. Lindsey, Stefano Fusi",
        2024,
        "2401.13558",
        "representation",
        "The activation decides what a hidden layer's geometry follows: tanh takes over the labels' "
        "structure, ReLU keeps more of the inputs'.",
    ),
    Paper(
        "equilibrium-propagation",
        "Improving equilibrium propagation without weight symmetry through Jacobian homeostasis",
        "Axel Laborieux, Friedemann Zenke",
        2023,
        "2309.02214",
        "learning",
        "A penalty on the asymmetry of the Jacobian lets equilibrium propagation train networks whose "
        "weights are not symmetric.",
    ),
    Paper(
        "forward-forward-physical",
        "Backpropagation-free Training of Deep Physical Neural Networks",
        "Ali Momeni, Babak Rahmani, Matthieu Malléjac, Philipp del Hougne, Romain Fleury",
        2023,
        "2304.11042",
        "learning",
        "Layers that no gradient passes through train by comparing a right with a wrong label "
        "locally, nearly as well as by backpropagation.",
    ),
    Paper(
        "neuromodulated-hebbian-tta",
        "Neuro-Modulated Hebbian Learning for Fully Test-Time Adaptation",
        "Yushun Tang, Ce Zhang, Heng Xu, Shuoshuo Chen, Jie Cheng, Luziwei Leng, Qinghai Guo, Zhihai He",
        2023,
        "2303.00914",
        "learning",
        "A soft Hebbian rule in the first layer, steered by the entropy of the predictions, adapts a "
        "classifier to shifted data without labels.",
    ),
    Paper(
        "barron-pde",
        "Neural Network Approximations of PDEs Beyond Linearity: A Representational Perspective",
        "Tanya Marwah, Zachary C. Lipton, Jianfeng Lu, Andrej Risteski",
        2022,
        "2210.12101",
        "equations",
        "Preconditioned descent keeps the Barron norm in bounds, so that networks of a size "
        "polynomial in the dimension represent solutions of nonlinear elliptic equations.",
    ),
    Paper(
        "lagrangian-pinn",
        "Lagrangian PINNs: A causality-conforming solution to failure modes of physics-informed "
        "neural networks",
        "Rambod Mojgani, Maciej Balajewicz, Pedram Hassanzadeh",
        2022,
        "2205.02902",
        "equations",
        "Following the characteristics lets physics-informed networks solve convection at speeds "
        "where ordinary ones fail.",
    ),
    Paper(
        "neural-audio-effects",
        "Exploring Quality and Generalizability in Parameterized Neural Audio Effects",
        "William Mitchell, Scott H. Hawley",
        2020,
        "2006.05584",
        "applications",
        "A network learns a compressor with its knobs end to end; of the changes tried, narrowing the "
        "kind of audio helps by far the most.",
    ),
    Paper(
        "soft-nms",
        "Soft-NMS -- Improving Object Detection With One Line of Code",
        "Navaneeth Bodla, Bharat Singh, Rama Chellappa, Larry S. Davis",
        2017,
        "1704.04503",
        "applications",
        "Lowering the scores of overlapping boxes in place of deleting the boxes raises the average "
        "precision of detectors, at the same cost and without training.",
    ),
)
"""All of them, those of an area together."""
