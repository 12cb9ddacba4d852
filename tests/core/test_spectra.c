#include "check.h"
#include "spectra.h"

enum { BANDS = 3, ROWS = 5, COLUMNS = 7 };

/* A window (BANDS, ROWS, COLUMNS) whose value at (b, r, c) is 100 b + 10 r + c, stored in that order. */
static met_image counted(float *values) {
    for (int b = 0; b < BANDS; b++) {
        for (int r = 0; r < ROWS; r++) {
            for (int c = 0; c < COLUMNS; c++) {
                values[(b * ROWS + r) * COLUMNS + c] = (float)(100 * b + 10 * r + c);
            }
        }
    }
    return (met_image){.data = values,
                       .dtype = MET_FLOAT32,
                       .shape = {BANDS, ROWS, COLUMNS},
                       .strides = {ROWS * COLUMNS * 4, COLUMNS * 4, 4},
                       .bands = 0};
}

/* At the centre (2, 3) the values are 100 b + 23; their sum over 35 pixels is 35 times the mean, the same. */
void test_spectra_of_windows(void) {
    static const int orders[3][MET_AXES] = {{0, 1, 2}, {1, 2, 0}, {2, 0, 1}};
    float values[BANDS * ROWS * COLUMNS];
    for (int o = 0; o < 3; o++) {
        met_image window = counted(values);
        double centre[BANDS], sums[BANDS];
        REQUIRE(met_image_permute(&window, orders[o]) == MET_OK);
        REQUIRE(met_window_spectrum(&window, MET_AT_CENTRE, centre) == MET_OK);
        REQUIRE(met_window_spectrum(&window, MET_OVER_WINDOW, sums) == MET_OK);
        for (int b = 0; b < BANDS; b++) {
            CHECK_CLOSE(centre[b], 100 * b + 23, 0);
            CHECK_CLOSE(sums[b], 35 * (100 * b + 23), 0);
        }
    }
}

void test_spectra_refuse(void) {
    float values[BANDS * ROWS * COLUMNS];
    double out[BANDS];
    met_image window = counted(values);
    window.bands = -1;
    CHECK_INT(met_window_spectrum(&window, MET_AT_CENTRE, out), MET_EVALUE);
    window.bands = 0;
    window.shape[1] = 0;
    CHECK_INT(met_window_spectrum(&window, MET_OVER_WINDOW, out), MET_EVALUE);
}
