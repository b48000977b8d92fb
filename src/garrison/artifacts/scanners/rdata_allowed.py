"""Functions that calls inside R data may name: operators of formulas and the modelling functions themselves.

A call in the data is not run by reading it; printing, updating or predicting may. None of these opens a
file, starts a program, evaluates text or reaches the network, whatever their arguments are.
"""

from __future__ import annotations

CALLS = frozenset(
    """
    ~ + - * / ^ : ( { | || & && ! == != < <= > >= %in% %*% %% %/% [ [[ $ @ c list cbind rbind data.frame
    log log2 log10 log1p exp expm1 sqrt abs round floor ceiling I factor as.factor as.numeric as.integer
    as.character ordered scale offset poly ns bs s te ti lag diff cut interaction strata cluster frailty tt
    Surv weights lm glm lme lmer glmer gls nls loess gam rpart randomForest ranger train glmnet cv.glmnet
    xgb.train xgboost svm ksvm nnet multinom polr coxph survfit survreg kmeans hclust prcomp princomp
    naiveBayes knn aov anova t.test arima Arima auto.arima ets HoltWinters predict model.frame terms
    variables trainControl formula as.formula binomial gaussian poisson Gamma quasibinomial quasipoisson
    data.matrix matrix numeric character logical integer double vector seq seq_len rep rev mean median min
    max sum nrow ncol NROW NCOL length is.na na.omit TRUE FALSE
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
