"""An autoencoder: 8x8 digits through 8 numbers and back, beside the best that is linear.

Encoder and decoder are two dense layers each. Whatever a linear one of the same size can do, the
first 8 principal components do best, which is what it is compared with (P. Baldi, K. Hornik,
"Neural networks and principal component analysis: learning from examples without local minima",
1989). Errors are mean squares of the pixels, 0 (paper) to 1 (ink), of digits it has not seen.

    python examples/autoencoder.py [--code 8] [--epochs 150] [--quick] [--plot digits.png]
"""

import argparse
from time import perf_counter

import numpy as np

import nn


def network(pixels, code):
    encoder = nn.Sequential(nn.Dense(pixels, 128, activation="elu"), nn.Dense(128, code))
    decoder = nn.Sequential(
        nn.Dense(code, 128, activation="elu"), nn.Dense(128, pixels, activation="sigmoid")
    )
    return nn.Sequential(encoder, decoder)


def through_components(x_train, x, count):
    """What is left of x in the space that the first principal components of other rows span."""
    mean = x_train.mean(axis=0)
    _, _, components = np.linalg.svd(x_train - mean, full_matrices=False)
    kept = components[:count]
    return (x - mean) @ kept.T @ kept + mean


def error(x, y):
    return np.mean((x - y) ** 2)


def show(rows, titles):
    """Rows of digits, line by line."""
    for digits, title in zip(rows, titles):
        print(f"\n{title}")
        for line in np.stack([digit.reshape(8, 8) for digit in digits], axis=1):
            print(
                " ".join("".join(" .:-=+*#%@"[round(9 * p)] for p in row) for row in line).rstrip()
            )


def draw(rows, titles, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    for axes, digits, title in zip(figure.subplots(len(rows), 1), rows, titles):
        image = np.full((8, 9 * len(digits) - 1), np.nan)
        for k, digit in enumerate(digits):
            image[:, 9 * k : 9 * k + 8] = digit.reshape(8, 8)
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(title, fontsize=8, loc="left")
        axes.axis("off")
    figure.savefig(path)


def main(code, epochs, quick, plot=None):
    x, y = nn.datasets.digits()
    x_train, x_test, _, labels = nn.train_test_split(x / 16, y, rng=0, stratify=y)
    epochs = 5 if quick else epochs

    nn.seed(0)
    model = network(x.shape[1], code)
    print(model.summary(x_train))
    start = perf_counter()
    history = nn.fit(
        model, (x_train, x_train), loss=nn.MSE(), optimizer=nn.Adam(lr=3e-3), epochs=epochs,
        batch_size=32, validation=(x_test, x_test), schedule=nn.CosineDecay(length=epochs),
    )  # fmt: skip
    seconds = perf_counter() - start
    print(f"\n{history}")

    ours, linear = nn.predict(model, x_test), through_components(x_train, x_test, code)
    mean = np.broadcast_to(x_train.mean(axis=0), x_test.shape)
    first = [np.flatnonzero(labels == k)[0] for k in range(10)]
    rows = [images[first] for images in (x_test, ours, np.clip(linear, 0, 1))]
    titles = [
        "digits it has not seen",
        f"through {code} numbers, by the autoencoder",
        f"through {code} numbers, by principal components",
    ]
    show([images[:8] for images in rows], titles)
    if plot:
        draw(rows, titles, plot)

    print(f"\n{f'Through {code} numbers':34} test error")
    for name, images in (
        ("the mean digit, whatever the digit", mean),
        ("principal components", linear),
        ("autoencoder", ours),
    ):
        print(f"{name:34} {error(images, x_test):10.4f}")
    print(f"\n{epochs} epochs, {seconds:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--code", type=int, default=8, help="numbers in the middle")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--quick", action="store_true", help="5 epochs")
    parser.add_argument("--plot", metavar="FILE", help="save a picture of the digits")
    main(**vars(parser.parse_args()))


# Printed:
#
# layer  kind                                  output    params    bytes    MACs
# ------------------------------------------------------------------------------
# 0.0    Dense(64, 128, activation='elu')      (N, 128)   8,320  33.3 kB  8.19 k
# 0.1    Dense(128, 8)                         (N, 8)     1,032  4.13 kB  1.02 k
# 1.0    Dense(8, 128, activation='elu')       (N, 128)   1,152  4.61 kB  1.02 k
# 1.1    Dense(128, 64, activation='sigmoid')  (N, 64)    8,256  33.0 kB  8.19 k
# ------------------------------------------------------------------------------
# 18,760 parameters, 75,040 bytes
# 18,432 multiply-adds (MACs) for each row
#
# epoch        loss    val_loss          lr
#     1      0.0766      0.0440      0.0030
#     8      0.0188      0.0187      0.0030
#    16      0.0151      0.0158      0.0029
#    24      0.0133      0.0142      0.0028
#    32      0.0121      0.0132      0.0027
#    40      0.0112      0.0128      0.0025
#    48      0.0106      0.0122      0.0023
#    56      0.0101      0.0118      0.0021
#    64      0.0096      0.0116      0.0019
#    72      0.0093      0.0112      0.0016
#    80      0.0089      0.0110      0.0014
#    88      0.0087      0.0109      0.0011
#    96      0.0085      0.0108   8.899e-04
#   104      0.0083      0.0105   6.699e-04
#   112      0.0081      0.0105   4.732e-04
#   120      0.0081      0.0104   3.052e-04
#   128      0.0080      0.0104   1.707e-04
#   136      0.0079      0.0104   7.342e-05
#   144      0.0079      0.0104   1.609e-05
#   150      0.0079      0.0103   3.290e-07
# 150 epochs in 12.2 s
#
# digits it has not seen
#   -#         ##     *%.     .=*%*     .*%.    .##*+     .#=      .+@@:
#   %*%#      *@%    =@@-     #*--@.    =@=:-   *@@@%*    =%.      %*=@=
#  .@@=*.   .#@@*    ###+     :  =%.   :@=:@*   *@+       #-       :  %-
#  :@* +:   *@#@=    =+#=        +*    +%.*%.   :%@=      @:         =@:
#  -#. #:   -:=@-      @-        .@.   *@@@*     .*%     :@*##:    -#@@+
#  .#  #:     -@-     -%.         =#   .:=@:      =@     :@*-+#   .@%@-
#   #-=#      :@=     @%:-=:   : .*+     +#      .**     .#*:#*    .=@
#   :%#:       %*     =@@@@+   #@%#:     #+     .@%:      .#@*.     #=
#
# through 8 numbers, by the autoencoder
#   -#+        %#     #%.     .*%%*      *#.    .*%%#:     #=      .#@@=
#   #%#=      *@#    :%@:     +%-:%.    -@==.   *@%*#:    +%.      +%*@*
#   %#-*.   .#%@*    =*#:     :. -%.   :@=.%-   *@*..     %-       ::.%:
#  .%#-#-   #@#@+    .-*.       .#*.   +@.+%-   :#@*     .%:         -%
#  -%. *-   :=+@=     -%-        .*-   :@%@%:     #%     :@###:    =%@@=
#  .%  %:     =@-     .#:         -#    -#%.      #@     :@*.+*   .#%%#
#  .%+*%      :@=     ##*++    :..+*     +#      :%%      ##.**     +#
#   -%#:       %#     #%@@@:   *%@#.     #+     .%@:      .#@#.    .%-
#
# through 8 numbers, by principal components
#   -*#:      :%#:   .+@+.     =%#=.     +#+:   .*%##-    .#+       *@*-
#  .###+     .#%#-   -@%=.    :%=+#.    -%==-   -@%==-    +%-      =#+@=
#  :%*=+.   .*@#*:   -%==     :- =%.   .*= =:   =@=-..   .%=       - :@-
#  -@+-+-   .#@%+    .+*+       .#%:   :#:-*-   -#%*     :%-.:.   .: +@-
#  -#: *-    -+%=     :#*        =@-   -#*%*:    :##     -@#+*-   :++%#-
#  :#..@-    .=@#     =*-.-       *+   :=#@=      +%.    :@*:++   :+#%:
#  .%=#@.     =@*     %@=**.   --.#+     *#      -#%.     *#:**    .#+
#   -#@-      -%+..   +@@%+.   +%##:     *=     .#@=      .*@%-    .*:
#
# Through 8 numbers                  test error
# the mean digit, whatever the digit     0.0730
# principal components                   0.0239
# autoencoder                            0.0103
#
# 150 epochs, 12.3 s
