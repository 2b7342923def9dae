r"""The highest mode of a posterior Gaussian mixture: what the proximal operator of a mixture is.

All of this package works in *data space*: with `alpha = alpha_bar(t)`, divide by `sqrt(alpha)`,

$$X = x/\sqrt{\alpha},\quad V_i = \mathrm{std}_i^2 + (1-\alpha)/\alpha,\quad \Lambda = \mathrm{lam}/\alpha,
\quad z = u/\sqrt{\alpha},$$

and the atoms mu_i stand still while X, V and Lambda change from call to call. Then `exp(-objective / lam)` is, as a
function of z,

$$\sum_i w_i\, N(z; \mu_i, V_i I)\, N(z; X, \Lambda I) \;\propto\; \sum_i W_i\, N(z; c_i, s_i I),\qquad
c_i = \frac{V_i X + \Lambda \mu_i}{V_i + \Lambda},\quad s_i = \frac{V_i \Lambda}{V_i + \Lambda},\quad
W_i \propto w_i\, N(X; \mu_i, (V_i + \Lambda) I),$$

again a Gaussian mixture, and the prox is its highest mode. The fixed-point iteration
`z <- (sum r_i c_i / s_i) / (sum r_i / s_i)`, with r the responsibilities of the components for z, is mean shift
(Carreira-Perpiñán 2000) and an EM step: it never lowers the density. With H the Hessian of the negative log
density and D = sum r_i / s_i, it is a gradient step of length 1/D, and `H = D (I - M)` with M = Cov / D positive
semi-definite, Cov the covariance of `(c_i - z) / s_i` under r: Newton's step is `(I - M)^{-1}` times the mean
shift, and a stationary point is a minimum where no eigenvalue of M exceeds 1.

Modules: `inputs` (what users give, in data space), `atoms` (components and their log weights), `problems` (density,
step and curvature at given points), `climb` (from starts to modes, and to the highest of each row), `starts` (where to
start so that it is found), `solve` (which way each row goes).
"""
