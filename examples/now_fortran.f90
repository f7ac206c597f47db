! ckpt_now() from Fortran, by dlsym: the same program runs without the library.
!
!   gfortran -m32 -O2 -o now_fortran examples/now_fortran.f90
!   LD_PRELOAD=$PWD/build/libselfckpt.so ./now_fortran
module selfckpt
    use iso_c_binding
    implicit none
    private
    public :: ckpt_available, ckpt_now, ckpt_generation

    interface
        function dlsym(handle, name) bind(c, name="dlsym")
            import :: c_ptr, c_funptr, c_char
            type(c_ptr), value :: handle
            character(kind=c_char), intent(in) :: name(*)
            type(c_funptr) :: dlsym
        end function
    end interface

    abstract interface
        function no_arguments() bind(c)
            import :: c_int
            integer(c_int) :: no_arguments
        end function
    end interface

contains

    ! Calls a function of the library; without it the result is `otherwise`.
    integer function call_library(name, otherwise)
        character(*), intent(in) :: name
        integer, intent(in) :: otherwise
        type(c_funptr) :: address
        procedure(no_arguments), pointer :: found
        call_library = otherwise
        address = dlsym(c_null_ptr, name // c_null_char)
        if (.not. c_associated(address)) return
        call c_f_procpointer(address, found)
        call_library = found()
    end function

    logical function ckpt_available()
        ckpt_available = call_library("ckpt_available", 0) == 1
    end function

    ! The generation that was written; 0 after a restart from it; -1 if there is none.
    integer function ckpt_now()
        ckpt_now = call_library("ckpt_now", -1)
    end function

    integer function ckpt_generation()
        ckpt_generation = call_library("ckpt_generation", 0)
    end function
end module

program now_fortran
    use selfckpt
    use iso_fortran_env, only: error_unit, int64
    implicit none
    integer, parameter :: steps = 40000000, every = 10000000
    integer :: step, generation
    integer(int64) :: sum
    if (.not. ckpt_available()) write (error_unit, '(a)') "runs without checkpoints: libselfckpt.so is not loaded"
    sum = 1
    do step = 1, steps
        sum = modulo(sum * 1664525_int64 + 1013904223_int64, 4294967296_int64)
        if (ckpt_available_at(step)) then
            generation = ckpt_now()
            if (generation > 0) then
                write (error_unit, '(a,i0,a,i0,a)') "step ", step, ": generation ", generation, " is written"
            else if (generation == 0) then
                write (error_unit, '(a,i0,a,i0)') "step ", step, ": restarted from generation ", ckpt_generation()
            else
                write (error_unit, '(a,i0,a)') "step ", step, ": no checkpoint"
            end if
        end if
    end do
    print '(i0)', sum

contains

    logical function ckpt_available_at(step)
        integer, intent(in) :: step
        ckpt_available_at = .false.
        if (mod(step, every) == 0) ckpt_available_at = ckpt_available()
    end function
end program
